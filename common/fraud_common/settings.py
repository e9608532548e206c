"""Settings: one typed class per service, read from the environment and checked at the start.

Each field is the environment variable of the same name in capitals; `.env.example` documents them. A service's class
inherits the connections that it uses from the classes below.
"""

from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from fraud_common.errors import UserError

# The ends of names whose values no message repeats.
_SECRETS = ("_KEY", "_KEYS", "_PASSWORD", "_SECRET")


class KafkaSettings(BaseSettings):
    """The broker."""

    kafka_bootstrap_servers: str = "kafka:29092"
    # How long a start waits for the broker before it gives up with a message.
    connect_timeout_seconds: float = Field(default=30.0, gt=0)


class SchemaRegistrySettings(BaseSettings):
    """The schema registry."""

    schema_registry_url: str = "http://schema-registry:8081"


class TrinoSettings(BaseSettings):
    """Trino and its schemas."""

    trino_host: str = "trino"
    trino_port: int = Field(default=8080, ge=1, le=65535)
    gold_schema: str = Field(default="gold", pattern=r"^[a-z0-9_]+$")
    bronze_schema: str = Field(default="bronze", pattern=r"^[a-z0-9_]+$")


class RedisSettings(BaseSettings):
    """The online feature store."""

    redis_host: str = "redis"
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_password: str = ""


class PostgresSettings(BaseSettings):
    """The database of predictions and labels."""

    postgres_host: str = "postgres"
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    fraud_db_name: str = "fraud"
    fraud_db_password: str = ""


class MlflowSettings(BaseSettings):
    """The model registry."""

    mlflow_tracking_uri: str = "http://mlflow:5000"


def load_settings[S: BaseSettings](kind: type[S], **overrides: Any) -> S:
    """Read and check the environment.

    Args:
        kind: the settings class of the service.
        overrides: values by field name that win over the environment.

    Raises:
        UserError: one line for each wrong setting: its name, its value and what it must be.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        raise UserError("\n".join(_explain(wrong) for wrong in error.errors())) from None


def _explain(wrong: Any) -> str:
    name = str(wrong["loc"][0]).upper()
    if wrong["type"] == "missing":
        return f"{name} is not set; set it in .env"
    # Logs are read by more people than .env is.
    given = name if name.endswith(_SECRETS) else f"{name}={wrong['input']}"
    return f"{given}: {wrong['msg'].removeprefix('Value error, ')}; correct it in .env"

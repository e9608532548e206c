"""The settings of the scorer, read from the environment and checked at the start."""

from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from serving.errors import ServiceError

# The schema of a score is registered under this name, whatever topic the scores go to.
SCORED_SUBJECT = "transactions.scored-value"
MAX_DEAD_LETTER_BYTES = 10_000_000


class ScorerSettings(BaseSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    kafka_bootstrap_servers: str = "localhost:9092"
    schema_registry_url: str = "http://localhost:8081"
    api_url: str = "http://localhost:8000"
    api_key: str = ""

    # Where a consumer group that never ran begins: history needs no scores. Afterwards it is where the last run ended.
    scorer_from: Literal["latest", "earliest"] = "latest"
    scorer_group: str = "scorer"
    # What goes to the API at once, at most, and how long the first payment waits for others.
    scorer_batch: int = Field(default=500, ge=1, le=1000)
    scorer_wait_ms: float = Field(default=50.0, ge=0, le=10_000)
    transactions_topic: str = "transactions.raw"
    scored_topic: str = "transactions.scored"
    dead_letter_topic: str = "transactions.dlq"

    metrics_port: int = Field(default=9402, ge=0, le=65535)
    # How long a start waits for the broker and the registry before it gives up with a message.
    connect_timeout_seconds: float = Field(default=30.0, gt=0)


def load_settings(**overrides: Any) -> ScorerSettings:
    """Read and check the environment.

    Raises:
        ServiceError: one line for each wrong setting: its name, its value, what it must be.
    """
    try:
        return ScorerSettings(**overrides)
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}; correct it in .env" for e in error.errors()]
        raise ServiceError("\n".join(lines)) from None

"""The settings of the exporter, read from the environment and checked at the start."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings


class SettingsError(Exception):
    """What is wrong with a setting, and where to correct it; one line for each."""


class Settings(BaseSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    kafka_bootstrap_servers: str = "localhost:9092"
    metrics_port: int = Field(default=9308, ge=0, le=65535)
    # Whoever scrapes within so long of another gets the same answer, so that two cost the broker no more than one.
    cache_seconds: float = Field(default=5.0, ge=0)
    # Less than Prometheus waits for a scrape: a broker that is away shows as a metric, not as a dead exporter.
    kafka_timeout_seconds: float = Field(default=5.0, gt=0, le=60)


def load_settings[S: BaseSettings](kind: type[S]) -> S:
    """Read and check the environment.

    Raises:
        SettingsError: one line for each wrong setting: its name, its value, what it must be.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}; correct it in .env" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None

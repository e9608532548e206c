"""The settings of every ingestion program, read from the environment and checked at the start.

Names and defaults are those of `.env.example`; Docker Compose passes them in.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings

from fraud_common.errors import UserError

TRANSACTIONS_TOPIC = "transactions.raw"
LABELS_TOPIC = "transactions.labels"
SCORED_TOPIC = "transactions.scored"
DEAD_LETTER_TOPIC = "transactions.dlq"
REDRIVEN_TOPIC = "transactions.dlq.redriven"

# The largest record of the working topics; a larger one is refused and goes to the dead letter topic, which takes ten
# times as much.
MAX_RECORD_BYTES = 1_000_000
MAX_DEAD_LETTER_BYTES = 10_000_000


def _tps(value: object) -> object:
    if value == "natural":
        return value
    try:
        rate = float(str(value))
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        raise ValueError("must be a number of transactions a second above 0, or the word natural")
    return rate


class Settings(BaseSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    kafka_bootstrap_servers: str = "localhost:9092"
    schema_registry_url: str = "http://localhost:8081"
    kafka_replication: int = Field(default=1, ge=1)

    simulator: Literal["on", "off"] = "on"
    producer_tps: Annotated[float | Literal["natural"], BeforeValidator(_tps)] = 100.0
    sim_seed: int = Field(default=42, ge=0)
    sim_users: int = Field(default=20_000, ge=10, le=5_000_000)
    backfill_days: int = Field(default=45, ge=0, le=3650)
    runway_days: int = Field(default=90, ge=0, le=3650)
    label_delay_scale: float = Field(default=1.0, gt=0, le=1)
    invalid_rate: float = Field(default=0.0, ge=0, le=1)
    fraud_burst: float = Field(default=0.0, ge=0, le=1)

    schema_dir: Path = Path(__file__).parent.parent / "schemas"
    state_dir: Path = Path("/var/lib/producer")
    metrics_port: int = Field(default=9400, ge=0, le=65535)
    # How long a start waits for the broker and the registry before it gives up with a message.
    connect_timeout_seconds: float = Field(default=30.0, gt=0)


def load_settings() -> Settings:
    """Read and check the environment.

    Raises:
        UserError: one line for each wrong setting: its name, its value, what it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{str(e['loc'][0]).upper()}={e['input']}: {e['msg'].removeprefix('Value error, ')}; correct it in .env"
            for e in error.errors()
        ]
        raise UserError("\n".join(lines)) from None

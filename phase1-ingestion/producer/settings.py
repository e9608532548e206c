"""The settings of every ingestion program, read from the environment and checked at the start.

Names and defaults are those of `.env.example`; Docker Compose passes them in.
"""

from pathlib import Path
from typing import Annotated, Literal

from fraud_common.service import ServiceSettings
from fraud_common.settings import KafkaSettings, SchemaRegistrySettings
from pydantic import BeforeValidator, Field


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


class Settings(KafkaSettings, SchemaRegistrySettings, ServiceSettings):
    """The connections, the simulated world, and where files are."""

    kafka_replication: int = Field(default=1, ge=1)

    simulator: Literal["on", "off"] = "on"
    producer_tps: Annotated[float | Literal["natural"], BeforeValidator(_tps)] = 100.0
    sim_profile: Literal["cards", "terminal"] = "cards"
    sim_seed: int = Field(default=42, ge=0)
    sim_users: int = Field(default=20_000, ge=10, le=5_000_000)
    backfill_days: int = Field(default=45, ge=0, le=3650)
    runway_days: int = Field(default=90, ge=0, le=3650)
    label_delay_scale: float = Field(default=1.0, gt=0, le=1)
    invalid_rate: float = Field(default=0.0, ge=0, le=1)
    fraud_burst: float = Field(default=0.0, ge=0, le=1)
    # Whether a declined fraud ends its scenario's further payments with that card.
    sim_declines: Literal["on", "off"] = "off"

    # A dead letter that failed this often is sent back only by name and with FORCE=1.
    dlq_max_attempts: int = Field(default=5, ge=1)

    schema_dir: Path = Path(__file__).parent / "schemas"
    state_dir: Path = Path("/var/lib/producer")
    metrics_port: int = Field(default=9400, ge=0, le=65535)

"""The settings of the scorer."""

from typing import Literal

from fraud_common.service import ServiceSettings
from fraud_common.settings import KafkaSettings, SchemaRegistrySettings
from fraud_common.topics import DEAD_LETTERS, SCORED, TRANSACTIONS
from pydantic import Field


class ScorerSettings(ServiceSettings, KafkaSettings, SchemaRegistrySettings):
    """What it reads, where it sends it, and how much at once."""

    api_url: str = "http://fraud-api:8000"
    api_key: str = ""

    # Where a new consumer group begins: history needs no scores. Later starts resume where the last run ended.
    scorer_from: Literal["latest", "earliest"] = "latest"
    scorer_group: str = "scorer"
    # The most payments in one request to the API, and how long the first one waits for others.
    scorer_batch: int = Field(default=500, ge=1, le=1000)
    scorer_wait_ms: float = Field(default=50.0, ge=0, le=10_000)
    transactions_topic: str = TRANSACTIONS
    scored_topic: str = SCORED
    dead_letter_topic: str = DEAD_LETTERS

    metrics_port: int = Field(default=9402, ge=0, le=65535)

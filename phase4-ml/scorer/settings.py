"""The settings of the scorer, beside those that each service has."""

from typing import Literal

from pydantic import Field

from fraud_common.service import ServiceSettings

# The schema of a score is registered under this name, whatever topic the scores go to.
SCORED_SUBJECT = "transactions.scored-value"
MAX_DEAD_LETTER_BYTES = 10_000_000


class ScorerSettings(ServiceSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

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

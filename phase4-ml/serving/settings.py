"""The settings of the scoring API."""

from pathlib import Path

from feature_store.settings import HistorySettings
from fraud_common.settings import MlflowSettings, PostgresSettings, RedisSettings
from pydantic import Field, field_validator
from rules.access import RulesSettings

MAX_REQUEST_BYTES = 1_048_576
MAX_BATCH = 1000
# A payment has 11; what is beyond these is not even looked at.
MAX_KEYS = 32
MAX_ERRORS = 20
# How long a connection may be idle, or its client not read an answer.
KEEP_ALIVE_SECONDS = 75


class ModelSettings(MlflowSettings):
    """How a model is followed in the registry."""

    model_poll_seconds: float = Field(default=5.0, gt=0)
    # Cached models; of the API also predictions that Postgres does not have yet.
    state_dir: Path = Path("/var/lib/fraud-api")


class Settings(HistorySettings, RedisSettings, PostgresSettings, ModelSettings, RulesSettings):
    """How the API serves, and how long it waits for Redis, the explainer and the model registry."""

    api_workers: int = Field(default=2, ge=1, le=64)
    api_port: int = Field(default=8000, ge=1, le=65535)
    # How long a client may take to send the head of a request, and its body.
    request_seconds: float = Field(default=10.0, gt=0)
    # Empty: no key is required.
    # One key, or several divided by commas. Empty: no key is required.
    api_key: str = ""
    # The key of the platform's own services.
    api_internal_key: str = ""
    # Payments a second that each key may have scored; 0 is no limit.
    api_rate_limit: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    # How long a request waits for Redis before it uses the defaults.
    redis_deadline_ms: float = Field(default=20.0, gt=0)
    explainer_url: str = "http://explainer:8001"
    # Answers wait until their record is on the disk; without a record there is no answer.
    audit_fsync: bool = False
    # Of all files with predictions that are not in Postgres yet.
    audit_max_mb: int = Field(default=4096, ge=16)
    # Of lists and suppressions that a worker keeps in memory, at most 320 bytes each.
    rules_max_list_entries: int = Field(default=50_000, ge=0, le=1_000_000)
    # Tier high is declined; otherwise it is challenged.
    decision_decline_high: bool = False
    # The share of users who are let through, each month others, and the largest amount that is.
    decision_holdout: float = Field(default=0.0, ge=0, le=0.2, allow_inf_nan=False)
    decision_holdout_max_amount: float = Field(default=100.0, ge=0, allow_inf_nan=False)
    # How long a request with ?explain=true waits for its reasons.
    explain_deadline_ms: float = Field(default=1000.0, gt=0)

    @field_validator("api_key")
    @classmethod
    def _has_a_key(cls, value: str) -> str:
        if value and not _keys(value):
            raise ValueError("there is no key in it; leave it empty to require none")
        return value

    @property
    def caller_keys(self) -> list[str]:
        """The keys that callers may have."""
        return _keys(self.api_key)


def _keys(text: str) -> list[str]:
    return [key for key in (each.strip() for each in text.split(",")) if key]

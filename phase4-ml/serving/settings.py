"""The settings of the scoring API."""

from pathlib import Path

from feature_store.settings import HistorySettings
from fraud_common.settings import MlflowSettings, PostgresSettings, RedisSettings
from pydantic import Field

MAX_REQUEST_BYTES = 1_048_576
MAX_BATCH = 1000


class ModelSettings(MlflowSettings):
    """How a model is followed in the registry."""

    model_poll_seconds: float = Field(default=5.0, gt=0)
    # Cached models; of the API also predictions that Postgres does not have yet.
    state_dir: Path = Path("/var/lib/fraud-api")


class Settings(HistorySettings, RedisSettings, PostgresSettings, ModelSettings):
    """How the API serves, and how long it waits for Redis, the explainer and the model registry."""

    api_workers: int = Field(default=2, ge=1, le=64)
    api_port: int = Field(default=8000, ge=1, le=65535)
    # Empty: no key is required.
    api_key: str = ""
    # How long a request waits for Redis before it uses the defaults.
    redis_deadline_ms: float = Field(default=20.0, gt=0)
    explainer_url: str = "http://explainer:8001"
    # How long a request with ?explain=true waits for its reasons.
    explain_deadline_ms: float = Field(default=1000.0, gt=0)

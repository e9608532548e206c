"""The settings of the scoring API, read from the environment and checked at the start."""

import sys
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

MODEL_NAME = "fraud-model"
MODEL_ALIAS = "production"

MAX_REQUEST_BYTES = 1_048_576
MAX_BATCH = 1000


class Settings(BaseSettings):
    """One typed value for each setting; names and defaults are those of `.env.example`."""

    api_workers: int = Field(default=2, ge=1, le=64)
    api_port: int = Field(default=8000, ge=1, le=65535)
    # Empty: nobody needs a key.
    api_key: str = ""
    redis_host: str = "redis"
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_password: str = ""
    # What Redis may cost a request; after that the defaults are used.
    redis_deadline_ms: float = Field(default=20.0, gt=0)
    postgres_host: str = "postgres"
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    fraud_db_password: str = ""
    mlflow_tracking_uri: str = "http://mlflow:5000"
    model_poll_seconds: float = Field(default=5.0, gt=0)
    # Cached models, and predictions that Postgres does not have yet.
    state_dir: Path = Path("/var/lib/fraud-api")


def load_settings[S: BaseSettings](kind: type[S], **overrides: Any) -> S:
    """Read and check the environment; a wrong setting ends the program with one line for each."""
    try:
        return kind(**overrides)
    except ValidationError as error:
        for e in error.errors():
            print(f"error: {str(e['loc'][0]).upper()}={e['input']}: {e['msg']}; correct it in .env", file=sys.stderr)
        sys.exit(2)

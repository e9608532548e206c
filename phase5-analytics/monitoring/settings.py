"""The settings of the drift watcher, read from the environment and checked at the start."""

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    postgres_host: str = "postgres"
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    fraud_db_password: str = ""
    mlflow_tracking_uri: str = "http://mlflow:5000"
    metrics_port: int = Field(default=9405, ge=0, le=65535)
    # Every so often the newest predictions are taken as a sample; the window is what is compared.
    drift_sample_seconds: float = Field(default=10.0, gt=0)
    drift_sample_rows: int = Field(default=20, ge=1, le=1000)
    drift_window_minutes: float = Field(default=60.0, gt=0)
    # With fewer the index is mostly chance.
    drift_minimum_rows: int = Field(default=500, ge=1)

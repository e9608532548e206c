"""The settings of the Bronze writer, read from the environment and checked at the start."""

import sys
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """One typed value for each setting; names and defaults are those of `.env.example`."""

    kafka_bootstrap_servers: str = "kafka:29092"
    schema_registry_url: str = "http://schema-registry:8081"
    s3_endpoint: str = "http://minio:9000"
    s3_access_key: str = "spark"
    s3_secret_key: str = Field(default=...)
    bronze_path: str = "s3a://lakehouse/bronze"
    checkpoint_path: str = "s3a://checkpoints/bronze"
    bronze_trigger_seconds: int = Field(default=10, ge=1)
    bronze_max_offsets_per_trigger: int = Field(default=1_000_000, ge=1)
    bronze_watermark_minutes: int = Field(default=30, ge=0)
    metrics_port: int = Field(default=9401, ge=0, le=65535)


def load_settings(**overrides: Any) -> Settings:
    """Read and check the environment; a wrong setting ends the program with one line for each."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        for e in error.errors():
            print(f"error: {str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}; correct it in .env", file=sys.stderr)
        sys.exit(2)

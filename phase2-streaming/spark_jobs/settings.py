"""The settings of the Bronze writer."""

from fraud_common.service import ServiceSettings
from fraud_common.settings import KafkaSettings, SchemaRegistrySettings
from pydantic import Field


class Settings(KafkaSettings, SchemaRegistrySettings, ServiceSettings):
    """One typed value for each setting; names and defaults are those of `.env.example`."""

    s3_endpoint: str = "http://minio:9000"
    s3_access_key: str = "spark"
    s3_secret_key: str = Field(default=...)
    bronze_path: str = "s3a://lakehouse/bronze"
    checkpoint_path: str = "s3a://checkpoints/bronze"
    bronze_trigger_seconds: int = Field(default=10, ge=1)
    bronze_max_offsets_per_trigger: int = Field(default=1_000_000, ge=1)
    # An event this much older than the newest one is marked late; it is kept all the same.
    bronze_late_after_minutes: int = Field(default=30, ge=0)
    metrics_port: int = Field(default=9401, ge=0, le=65535)

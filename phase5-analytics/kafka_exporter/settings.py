"""The settings of the exporter."""

from fraud_common.service import ServiceSettings
from fraud_common.settings import KafkaSettings
from pydantic import Field


class Settings(ServiceSettings, KafkaSettings):
    """Each field is the environment variable of the same name in capitals."""

    metrics_port: int = Field(default=9308, ge=0, le=65535)
    # Scrapes this close together share one answer, so that a second reader costs the broker nothing.
    cache_seconds: float = Field(default=5.0, ge=0)
    # Less than Prometheus waits for a scrape: a broker that is down shows as a metric, not as a dead exporter.
    kafka_timeout_seconds: float = Field(default=5.0, gt=0, le=60)

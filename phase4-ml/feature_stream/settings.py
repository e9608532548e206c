"""The settings of the feature stream."""

from typing import Literal

from feature_store.settings import StoreSettings
from fraud_common.service import ServiceSettings
from fraud_common.settings import KafkaSettings, SchemaRegistrySettings
from fraud_common.topics import LABELS, TRANSACTIONS
from pydantic import Field


class StreamSettings(ServiceSettings, KafkaSettings, SchemaRegistrySettings, StoreSettings):
    """What it reads and how, beside the connections and the store's own settings."""

    transactions_topic: str = TRANSACTIONS
    labels_topic: str = LABELS
    feature_stream_group: str = "feature-stream"
    # Where an empty Redis is filled from: Bronze, which has more than Kafka keeps, or Kafka alone.
    feature_stream_from: Literal["bronze", "kafka"] = "bronze"
    feature_stream_batch: int = Field(default=1000, ge=1, le=100_000)
    metrics_port: int = Field(default=9403, ge=0, le=65535)

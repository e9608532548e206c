"""The settings of everything that writes the online store, or reads it."""

from fraud_common.settings import RedisSettings, TrinoSettings
from pydantic import Field
from pydantic_settings import BaseSettings


class HistorySettings(BaseSettings):
    """How much the store keeps: the same for all that write it or read it."""

    # Payments of one user that are kept, the newest ones.
    feature_stream_max_payments_per_user: int = Field(default=1000, ge=10, le=100_000)


class StoreSettings(HistorySettings, RedisSettings, TrinoSettings):
    """Where the store and the lakehouse are, and how much the store keeps."""

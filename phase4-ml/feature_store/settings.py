"""The settings of everything that writes the online store."""

from fraud_common.settings import RedisSettings, TrinoSettings
from pydantic import Field


class StoreSettings(RedisSettings, TrinoSettings):
    """Where the store and the lakehouse are, and how much the store keeps."""

    # Payments of one user that are kept, the newest ones.
    feature_stream_max_payments_per_user: int = Field(default=1000, ge=10, le=100_000)

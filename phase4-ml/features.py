"""The features of the fraud model: names, order, types, defaults, and how a vector is made. The one definition.

Pure: numpy and the standard library only, no I/O. Copied into the training, serving and Airflow images. Upstream are
Gold (mart_training_examples, mart_fraud_features, mart_merchant_risk) and Redis; downstream is the model. What SQL
computes for a training example and what `UserFeatures.to_array` computes for a live payment at the same instant are the
same numbers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

# Redis keys of the batch snapshots from Gold, and how long one is good for.
USER_KEY = "user_features:{}"
MERCHANT_KEY = "merchant_features:{}"
SNAPSHOT_SECONDS = 24 * 3600

# Layout of the snapshots: a reader takes no other.
SNAPSHOT_VERSION = 1

LONGEST_WINDOW_SECONDS = 30 * 86_400.0
DEVICE_TYPES = ("mobile", "web", "atm", "pos")
NIGHT_ENDS_AT = 6

PAYMENT_FEATURES = (
    "amount",
    "is_international",
    "event_hour",
    "is_night",
    "is_weekend",
    "is_mobile",
    "is_web",
    "is_atm",
    "is_pos",
    "merchant_category_risk",
)
USER_FEATURES = (
    "transactions_1d",
    "amount_sum_1d",
    "amount_mean_1d",
    "amount_stddev_1d",
    "amount_max_1d",
    "transactions_7d",
    "amount_sum_7d",
    "amount_mean_7d",
    "amount_stddev_7d",
    "amount_max_7d",
    "transactions_30d",
    "amount_sum_30d",
    "amount_mean_30d",
    "amount_stddev_30d",
    "amount_max_30d",
    "distinct_merchants_30d",
    "distinct_countries_30d",
    "distinct_devices_30d",
    "international_ratio_30d",
    "high_amount_ratio_30d",
    "confirmed_frauds",
)
MERCHANT_FEATURES = (
    "merchant_transactions_1d",
    "merchant_fraud_rate_1d",
    "merchant_transactions_7d",
    "merchant_fraud_rate_7d",
    "merchant_transactions_30d",
    "merchant_fraud_rate_30d",
)
HABIT_FEATURES = (
    "amount_to_mean_30d",
    "amount_zscore_30d",
    "seconds_since_last",
    "transactions_1d_to_30d",
    "amount_1d_to_30d",
)
FEATURES = PAYMENT_FEATURES + USER_FEATURES + MERCHANT_FEATURES + HABIT_FEATURES

# Columns of mart_training_examples that `training_matrix` reads.
TRAINING_COLUMNS = (
    *(name for name in PAYMENT_FEATURES if name not in ("is_mobile", "is_web", "is_atm", "is_pos")),
    "device_type",
    *USER_FEATURES,
    *MERCHANT_FEATURES,
    *HABIT_FEATURES,
)


@dataclass(frozen=True, slots=True)
class Payment:
    """What the request itself tells. An unknown device type is None: none of the four device features is set."""

    amount: float
    is_international: bool
    event_time: datetime
    device_type: str | None = None


class _State:
    """What both states below have: they are made from a row of Gold, and kept in Redis as JSON."""

    __slots__ = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of mart_fraud_features or mart_merchant_risk; columns that are no features are ignored."""
        return cls(**{name: row[name] for name in _names(cls)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From a snapshot in Redis. Raises ValueError where it is none of SNAPSHOT_VERSION."""
        return cls(**_snapshot(text))

    def to_json(self) -> str:
        """The snapshot that `from_json` reads."""
        return _json(self)


@dataclass(frozen=True, slots=True)
class MerchantFeatures(_State):
    """What is known of a merchant at 00:00 UTC of a day; the defaults are those of a merchant that nobody knows."""

    merchant_category: str = "unknown"
    merchant_category_risk: int = 1
    merchant_transactions_1d: int = 0
    merchant_fraud_rate_1d: float = 0.0
    merchant_transactions_7d: int = 0
    merchant_fraud_rate_7d: float = 0.0
    merchant_transactions_30d: int = 0
    merchant_fraud_rate_30d: float = 0.0
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserFeatures(_State):
    """What is known of a cardholder just before `as_of`; the defaults are those of one who never paid before.

    Amounts are in the payments' own currency; windows are the 1, 7 and 30 days before `as_of`; `last_event_time` is the
    newest payment in the last 30 days.
    """

    transactions_1d: int = 0
    amount_sum_1d: float = 0.0
    amount_mean_1d: float = 0.0
    amount_stddev_1d: float = 0.0
    amount_max_1d: float = 0.0
    transactions_7d: int = 0
    amount_sum_7d: float = 0.0
    amount_mean_7d: float = 0.0
    amount_stddev_7d: float = 0.0
    amount_max_7d: float = 0.0
    transactions_30d: int = 0
    amount_sum_30d: float = 0.0
    amount_mean_30d: float = 0.0
    amount_stddev_30d: float = 0.0
    amount_max_30d: float = 0.0
    distinct_merchants_30d: int = 0
    distinct_countries_30d: int = 0
    distinct_devices_30d: int = 0
    international_ratio_30d: float = 0.0
    high_amount_ratio_30d: float = 0.0
    confirmed_frauds: int = 0
    last_event_time: datetime | None = None
    as_of: datetime | None = None

    def to_array(self, payment: Payment, merchant: MerchantFeatures) -> NDArray[np.float32]:
        """The model's input for one payment: shape (len(FEATURES),), in the order of FEATURES."""
        moment = payment.event_time.astimezone(UTC)
        device = payment.device_type
        amount = payment.amount
        return np.array(
            (
                amount,
                payment.is_international,
                moment.hour,
                moment.hour < NIGHT_ENDS_AT,
                moment.weekday() >= 5,
                device == "mobile",
                device == "web",
                device == "atm",
                device == "pos",
                merchant.merchant_category_risk,
                self.transactions_1d,
                self.amount_sum_1d,
                self.amount_mean_1d,
                self.amount_stddev_1d,
                self.amount_max_1d,
                self.transactions_7d,
                self.amount_sum_7d,
                self.amount_mean_7d,
                self.amount_stddev_7d,
                self.amount_max_7d,
                self.transactions_30d,
                self.amount_sum_30d,
                self.amount_mean_30d,
                self.amount_stddev_30d,
                self.amount_max_30d,
                self.distinct_merchants_30d,
                self.distinct_countries_30d,
                self.distinct_devices_30d,
                self.international_ratio_30d,
                self.high_amount_ratio_30d,
                self.confirmed_frauds,
                merchant.merchant_transactions_1d,
                merchant.merchant_fraud_rate_1d,
                merchant.merchant_transactions_7d,
                merchant.merchant_fraud_rate_7d,
                merchant.merchant_transactions_30d,
                merchant.merchant_fraud_rate_30d,
                # A user without history is nobody unusual: ratio 1, score 0, the longest window since the last payment.
                amount / self.amount_mean_30d if self.amount_mean_30d > 0 else 1.0,
                (amount - self.amount_mean_30d) / self.amount_stddev_30d if self.amount_stddev_30d > 0 else 0.0,
                _seconds_since(self.last_event_time, moment),
                self.transactions_1d / self.transactions_30d if self.transactions_30d else 0.0,
                self.amount_sum_1d / self.amount_sum_30d if self.amount_sum_30d else 0.0,
            ),
            dtype=np.float32,
        )


def training_matrix(columns: Mapping[str, Any]) -> NDArray[np.float32]:
    """The model's input for many training examples.

    Args:
        columns: TRAINING_COLUMNS of mart_training_examples by name, each an array or Series of the same length n.

    Returns:
        Shape (n, len(FEATURES)), in the order of FEATURES.
    """
    devices = np.asarray(columns["device_type"], dtype=object)
    matrix = np.empty((len(devices), len(FEATURES)), dtype=np.float32)
    for position, name in enumerate(FEATURES):
        device = name.removeprefix("is_")
        matrix[:, position] = devices == device if device in DEVICE_TYPES else np.asarray(columns[name])
    return matrix


def _seconds_since(last: datetime | None, moment: datetime) -> float:
    if last is None:
        return LONGEST_WINDOW_SECONDS
    # A payment that comes late is before the snapshot's last one.
    return min(max((moment - last).total_seconds(), 0.0), LONGEST_WINDOW_SECONDS)


def _names(features: type[Any]) -> list[str]:
    return [field.name for field in fields(features)]


def _json(features: _State) -> str:
    values = {name: getattr(features, name) for name in _names(type(features))}
    return json.dumps({"version": SNAPSHOT_VERSION, **values}, default=datetime.isoformat, separators=(",", ":"))


def _snapshot(text: str | bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text)
    version = values.pop("version", None)
    if version != SNAPSHOT_VERSION:
        raise ValueError(f"snapshot of version {version}, this program reads {SNAPSHOT_VERSION}")
    for name in ("as_of", "last_event_time"):
        if values.get(name) is not None:
            values[name] = datetime.fromisoformat(values[name])
    return values

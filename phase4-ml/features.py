"""The features of the fraud model: names, order, types, defaults, and how a vector is made. The one definition.

Pure: numpy and the standard library only, no I/O. Copied into the training, serving and Airflow images. Upstream are
Gold (mart_training_examples, mart_fraud_features, mart_merchant_risk) and Redis; downstream is the model. What SQL
computes for a training example and what `UserFeatures.to_array` computes for a live payment at the same instant are the
same numbers.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

# Redis keys of the batch snapshots from Gold, and how long one is good for.
USER_KEY = "user_features:{}"
MERCHANT_KEY = "merchant_features:{}"
SNAPSHOT_SECONDS = 24 * 3600

# What the snapshots' values mean: a reader takes no other. Features that came or went are seen by their names.
SNAPSHOT_VERSION = 1

WINDOWS_DAYS = (1, 7, 30)
DAY_MS = 86_400_000
LONGEST_WINDOW_SECONDS = 30 * 86_400.0
# From this on an amount is high, as `high_amount` in dbt_project.yml has it for the SQL.
HIGH_AMOUNT_CENTS = 50_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UserEvents:
    """A cardholder's payments, oldest first, and the verdicts on them: all that `UserFeatures.from_events` asks for.

    Arrays of int64, those of payments of shape (n,), those of verdicts (m,). Times are in milliseconds since 1970 UTC.
    Merchants, countries and devices are numbers, equal where the names are equal.
    """

    event_time: Integers
    cents: Integers
    is_international: Integers
    merchant: Integers
    country: Integers
    device: Integers
    # A label as it was reported; `verdict_payment` tells which verdicts are on the same payment.
    verdict_payment: Integers
    verdict_reported_at: Integers
    verdict_is_fraud: Integers


@dataclass(frozen=True, slots=True)
class FraudChange:
    """From 00:00 UTC of the day `known_on` on, `change` more payments of the day `day` are known as frauds.

    Days are counted since 1970. A fraud that a later verdict clears is a change of -1 from the day of that verdict on.
    """

    day: int
    known_on: int
    change: int


class _State:
    """What both states below have: they are made from a row of Gold, and kept in Redis as JSON."""

    __slots__ = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of mart_fraud_features or mart_merchant_risk; columns that are no features are ignored."""
        return cls(**{name: row[name] for name in _names(cls)})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From a snapshot in Redis. Raises ValueError where it is of another version or has other features."""
        values = _snapshot(text)
        if values.keys() != set(cls.__slots__):
            raise ValueError("the snapshot has other features than this program")
        return cls(**values)

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

    @classmethod
    def from_days(
        cls, payments: Mapping[int, int], frauds: Iterable[FraudChange], as_of: datetime, reference: Self
    ) -> Self:
        """The state at 00:00 UTC of the day of `as_of`.

        Args:
            payments: how many there were, by day since 1970.
            frauds: those that became known, and those that were cleared.
            reference: tells the merchant's category, which no payment does.
        """
        today = milliseconds(as_of) // DAY_MS
        counts = _by_window(today, payments.items())
        bad = _by_window(today, ((fraud.day, fraud.change) for fraud in frauds if fraud.known_on <= today))
        numbers: dict[str, Any] = {}
        for days, count, known in zip(WINDOWS_DAYS, counts, bad, strict=True):
            numbers[f"merchant_transactions_{days}d"] = count
            numbers[f"merchant_fraud_rate_{days}d"] = known / count if count else 0.0
        return replace(reference, **numbers, as_of=EPOCH + timedelta(days=today))


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

    @classmethod
    def from_events(cls, events: UserEvents, as_of: datetime, including: bool = False) -> Self:
        """The state just before a moment, or with what happened in that very millisecond (`including`).

        In whole cents, so that nothing depends on the order of additions, and in plain Python: with the some 60 events
        of a month that takes less time than numpy's calls would.
        """
        moment = milliseconds(as_of)
        starts = [moment - days * DAY_MS for days in WINDOWS_DAYS]
        *begins, end = events.event_time.searchsorted([*starts, moment + including]).tolist()
        numbers: dict[str, Any] = {}
        for days, begin in zip(WINDOWS_DAYS, begins, strict=True):
            numbers |= _amounts(events.cents[begin:end].tolist(), days)
        month = slice(begins[-1], end)
        count = end - begins[-1]
        if count:
            numbers["distinct_merchants_30d"] = len(set(events.merchant[month].tolist()))
            numbers["distinct_countries_30d"] = len(set(events.country[month].tolist()))
            numbers["distinct_devices_30d"] = len(set(events.device[month].tolist()))
            numbers["international_ratio_30d"] = sum(events.is_international[month].tolist()) / count
            high = sum(amount >= HIGH_AMOUNT_CENTS for amount in events.cents[month].tolist())
            numbers["high_amount_ratio_30d"] = high / count
            numbers["last_event_time"] = EPOCH + timedelta(milliseconds=int(events.event_time[end - 1]))
        return cls(**numbers, confirmed_frauds=_confirmed_frauds(events, moment), as_of=as_of)

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


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 UTC, the next whole one: what is before that is before the moment."""
    return -((EPOCH - moment) // timedelta(milliseconds=1))


def _by_window(today: int, numbers: Iterable[tuple[int, int]]) -> list[int]:
    """The sum over the days before today, for each window."""
    sums = [0] * len(WINDOWS_DAYS)
    for day, number in numbers:
        age = today - day
        if age > 0:
            for position, days in enumerate(WINDOWS_DAYS):
                if age <= days:
                    sums[position] += number
    return sums


def _amounts(cents: list[int], days: int) -> dict[str, float]:
    """The five features of one window."""
    if not cents:
        return {}
    count, total = len(cents), sum(cents)
    # Exact: of equal amounts it is 0, by which nothing may be divided, and not almost.
    squares = count * sum(amount * amount for amount in cents) - total * total
    return {
        f"transactions_{days}d": count,
        f"amount_sum_{days}d": total / 100,
        f"amount_mean_{days}d": total / count / 100,
        f"amount_stddev_{days}d": sqrt(squares) / count / 100,
        f"amount_max_{days}d": max(cents) / 100,
    }


def _confirmed_frauds(events: UserEvents, moment: int) -> int:
    """Payments whose newest verdict by then is fraud."""
    if not len(events.verdict_payment):
        return 0
    reports = zip(
        events.verdict_reported_at.tolist(),
        events.verdict_payment.tolist(),
        events.verdict_is_fraud.tolist(),
        strict=True,
    )
    newest = {payment: is_fraud for reported_at, payment, is_fraud in sorted(reports) if reported_at <= moment}
    return sum(newest.values())


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

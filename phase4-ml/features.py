"""The features of the fraud model: names, order, types, defaults and formulas. This is their only definition.

Pure: numpy and the standard library only, no I/O. Copied into the training, serving and Airflow images. Upstream are
Gold (mart_training_examples, mart_fraud_features, mart_merchant_risk) and Redis; downstream is the model. SQL computes
the same numbers for a training example as `UserFeatures.to_array` computes for a live payment at the same instant.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

# Redis keys of the batch snapshots from Gold, and how long a snapshot is valid.
USER_KEY = "user_features:{}"
MERCHANT_KEY = "merchant_features:{}"
SNAPSHOT_SECONDS = 24 * 3600

# What the snapshots' values mean: a reader accepts no other version. New or removed features are recognised by name.
SNAPSHOT_VERSION = 1

# The data clock is the third-newest of the users' newest event times, so that two wrong rows can't move it; the
# variable `data_clock_rank` in dbt_project.yml is the same for the SQL.
DATA_CLOCK_RANK = 3

WINDOWS_DAYS = (1, 7, 30)
DAY_MS = 86_400_000
LONGEST_WINDOW_SECONDS = 30 * 86_400.0
# The lowest amount that counts as high; `high_amount` in dbt_project.yml is the same for the SQL.
HIGH_AMOUNT_CENTS = 50_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEVICE_TYPES = ("mobile", "web", "atm", "pos")
NIGHT_ENDS_AT = 6


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model.

    A formula is a Python expression over `payment`, `moment` (its time in UTC), `user` and `merchant`. Features of the
    sources user and merchant need none: they are fields of UserFeatures and MerchantFeatures.
    """

    name: str
    source: Literal["payment", "user", "merchant", "habit"]
    # Its value when nothing is known of the user or the merchant; its type is the feature's type in Python.
    default: int | float
    meaning: str
    formula: str = ""
    # The formula applies where this expression is true; elsewhere the feature has its default.
    known_if: str = ""
    # The column of mart_training_examples, where it has another name than the feature.
    column: str = ""
    # The feature is 1 where that column has this value, else 0.
    column_value: str = ""

    @property
    def expression(self) -> str:
        """The feature as Python."""
        formula = self.formula or f"{self.source}.{self.name}"
        return f"({formula} if {self.known_if} else {self.default!r})" if self.known_if else f"({formula})"


def _amounts_of_window(days: int) -> Iterable[Feature]:
    """The features of a user's amounts in one window; `_amounts` computes them from events."""
    yield Feature(f"transactions_{days}d", "user", 0, f"Payments of the user, last {days} d.")
    yield Feature(f"amount_sum_{days}d", "user", 0.0, "Sum of their amounts.")
    yield Feature(f"amount_mean_{days}d", "user", 0.0, "Mean of their amounts.")
    yield Feature(f"amount_stddev_{days}d", "user", 0.0, "Standard deviation of their amounts (population).")
    yield Feature(f"amount_max_{days}d", "user", 0.0, "Largest of their amounts.")


def _merchant_window(days: int) -> Iterable[Feature]:
    """The features of a merchant in one window; `MerchantFeatures.from_days` computes them from counts."""
    yield Feature(f"merchant_transactions_{days}d", "merchant", 0, f"Payments at the merchant, {days} d before today.")
    yield Feature(
        f"merchant_fraud_rate_{days}d", "merchant", 0.0, "Share of them known as fraud at 00:00 UTC of the day."
    )


# Every feature, in the order of the model's input. An unknown user counts as average.
ALL_FEATURES: tuple[Feature, ...] = (
    Feature("amount", "payment", 0.0, "Amount in the payment's own currency.", "payment.amount"),
    Feature(
        "is_international",
        "payment",
        0,
        "1 if the payment crosses a border, as its sender says.",
        "payment.is_international",
    ),
    Feature("event_hour", "payment", 0, "Hour of the day in UTC, 0 to 23.", "moment.hour"),
    Feature("is_night", "payment", 0, "1 before 06:00 UTC.", "moment.hour < NIGHT_ENDS_AT"),
    Feature("is_weekend", "payment", 0, "1 on Saturday and Sunday, UTC.", "moment.weekday() >= 5"),
    *(
        Feature(
            f"is_{device}",
            "payment",
            0,
            f"1 if the device type is {device}.",
            f"payment.device_type == {device!r}",
            column="device_type",
            column_value=device,
        )
        for device in DEVICE_TYPES
    ),
    Feature(
        "merchant_category_risk",
        "payment",
        1,
        "Risk of the merchant's category: 0 low, 1 medium, 2 high.",
        "merchant.merchant_category_risk",
    ),
    *(feature for days in WINDOWS_DAYS for feature in _amounts_of_window(days)),
    Feature("distinct_merchants_30d", "user", 0, "Different merchants that the user paid in the last 30 days."),
    Feature("distinct_countries_30d", "user", 0, "Different countries of these payments."),
    Feature("distinct_devices_30d", "user", 0, "Different devices of these payments."),
    Feature("international_ratio_30d", "user", 0.0, "Share of international payments among these."),
    Feature("high_amount_ratio_30d", "user", 0.0, "Share of high amounts among these."),
    Feature("confirmed_frauds", "user", 0, "The user's payments, of any age, whose newest label is fraud."),
    *(feature for days in WINDOWS_DAYS for feature in _merchant_window(days)),
    Feature(
        "amount_to_mean_30d",
        "habit",
        1.0,
        "Amount divided by the user's 30-day mean.",
        "payment.amount / user.amount_mean_30d",
        known_if="user.amount_mean_30d > 0",
    ),
    Feature(
        "amount_zscore_30d",
        "habit",
        0.0,
        "The user's 30-day standard deviations between the amount and the mean.",
        "(payment.amount - user.amount_mean_30d) / user.amount_stddev_30d",
        known_if="user.amount_stddev_30d > 0",
    ),
    Feature(
        "seconds_since_last",
        "habit",
        LONGEST_WINDOW_SECONDS,
        "Seconds since the user's last payment, at most 30 days.",
        "_seconds_between(user.last_event_time, moment)",
        known_if="user.last_event_time is not None",
    ),
    Feature(
        "transactions_1d_to_30d",
        "habit",
        0.0,
        "The last day's share of the user's payments of 30 days.",
        "user.transactions_1d / user.transactions_30d",
        known_if="user.transactions_30d",
    ),
    Feature(
        "amount_1d_to_30d",
        "habit",
        0.0,
        "The last day's share of the user's amounts of 30 days.",
        "user.amount_sum_1d / user.amount_sum_30d",
        known_if="user.amount_sum_30d",
    ),
)

PAYMENT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "payment")
USER_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "user")
MERCHANT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "merchant")
HABIT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "habit")
FEATURES = tuple(feature.name for feature in ALL_FEATURES)

# Columns of mart_training_examples that `training_matrix` reads.
TRAINING_COLUMNS = tuple(dict.fromkeys(feature.column or feature.name for feature in ALL_FEATURES))

# All formulas as one function. Compiled once, because 42 calls for each payment would take several times as long.
_vector = eval(
    f"lambda payment, moment, user, merchant: ({', '.join(feature.expression for feature in ALL_FEATURES)},)"
)


@dataclass(frozen=True, slots=True)
class Payment:
    """What the request says. An unknown device type is None: none of the four device features is set."""

    amount: float
    is_international: bool
    event_time: datetime
    device_type: str | None = None


Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UserEvents:
    """A cardholder's payments, oldest first, and the labels on them: the input of `UserFeatures.from_events`.

    Arrays of int64, those of payments of shape (n,), those of labels (m,). Times are in milliseconds since 1970 UTC.
    Merchants, countries and devices are numbers, equal where the names are equal.
    """

    event_time: Integers
    cents: Integers
    is_international: Integers
    merchant: Integers
    country: Integers
    device: Integers
    # Labels as they were reported; those on the same payment have the same `label_payment`.
    label_payment: Integers
    label_reported_at: Integers
    label_is_fraud: Integers


@dataclass(frozen=True, slots=True)
class FraudChange:
    """From 00:00 UTC of the day `known_on`, `change` more payments of the day `day` are known as frauds.

    Days are counted since 1970. A fraud that a later label clears is a change of -1 from the day of that label.
    """

    day: int
    known_on: int
    change: int


class _State:
    """What both states below have: they are made from a row of Gold, and stored in Redis as JSON."""

    __slots__ = ()
    # The names of the fields, which every dataclass has.
    __match_args__: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of mart_fraud_features or mart_merchant_risk; other columns are ignored."""
        return cls(**{name: row[name] for name in cls.__match_args__})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From a snapshot in Redis. Raises ValueError if it has another version or other features."""
        values = _snapshot(text)
        if values.keys() != set(cls.__match_args__):
            raise ValueError("the snapshot has other features than this program")
        return cls(**values)

    def to_json(self) -> str:
        """The snapshot that `from_json` reads."""
        return _json(self)


_Field = tuple[str, Any, Any]
_TIME = datetime | None


def _fields(*names: str) -> list[_Field]:
    """Features as fields of a dataclass, with their defaults."""
    return [
        (feature.name, type(feature.default), field(default=feature.default))
        for feature in ALL_FEATURES
        if feature.name in names
    ]


def _state(name: str, *state_fields: _Field) -> Any:
    return make_dataclass(name, state_fields, bases=(_State,), frozen=True, slots=True)


class MerchantFeatures(
    _state(  # type: ignore[misc] # the fields come from the list
        "_MerchantState",
        ("merchant_category", str, field(default="unknown")),
        *_fields("merchant_category_risk"),
        *_fields(*MERCHANT_FEATURES),
        ("as_of", _TIME, field(default=None)),
    )
):
    """What is known of a merchant at 00:00 UTC of a day; the defaults are those of an unknown merchant.

    Fields: `merchant_category`, the features of the source merchant, `merchant_category_risk`, and `as_of`.
    """

    __slots__ = ()

    @classmethod
    def from_days(
        cls, payments: Mapping[int, int], frauds: Iterable[FraudChange], as_of: datetime, reference: Self
    ) -> Self:
        """The state at 00:00 UTC of the day of `as_of`.

        Args:
            payments: their number, by day since 1970.
            frauds: those that became known, and those that were cleared.
            reference: has the merchant's category, which payments do not say.
        """
        today = milliseconds(as_of) // DAY_MS
        counts = _by_window(today, payments.items())
        bad = _by_window(today, ((fraud.day, fraud.change) for fraud in frauds if fraud.known_on <= today))
        numbers: dict[str, Any] = {}
        for days, count, known in zip(WINDOWS_DAYS, counts, bad, strict=True):
            numbers[f"merchant_transactions_{days}d"] = count
            numbers[f"merchant_fraud_rate_{days}d"] = known / count if count else 0.0
        return replace(reference, **numbers, as_of=EPOCH + timedelta(days=today))


class UserFeatures(
    _state(  # type: ignore[misc] # the fields come from the list
        "_UserState",
        *_fields(*USER_FEATURES),
        ("last_event_time", _TIME, field(default=None)),
        ("as_of", _TIME, field(default=None)),
    )
):
    """What is known of a cardholder just before `as_of`; the defaults are those of a user without payments.

    Fields: the features of the source user, `last_event_time`, and `as_of`. Amounts are in the payments' own currency;
    windows are the 1, 7 and 30 days before `as_of`; `last_event_time` is the newest payment in the last 30 days.
    """

    __slots__ = ()

    @classmethod
    def from_events(cls, events: UserEvents, as_of: datetime, including: bool = False) -> Self:
        """The state just before a moment, or with the events of that very millisecond (`including`).

        In whole cents, so that nothing depends on the order of additions, and in plain Python: for about 60 events
        a month that takes less time than numpy's calls would.
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
        return np.array(_vector(payment, moment, self, merchant), dtype=np.float32)


def training_matrix(columns: Mapping[str, Any]) -> NDArray[np.float32]:
    """The model's input for many training examples.

    Args:
        columns: TRAINING_COLUMNS of mart_training_examples by name, each an array or Series of the same length n.

    Returns:
        Shape (n, len(FEATURES)), in the order of FEATURES.
    """
    matrix = np.empty((len(columns[FEATURES[0]]), len(FEATURES)), dtype=np.float32)
    for position, feature in enumerate(ALL_FEATURES):
        if feature.column_value:
            matrix[:, position] = np.asarray(columns[feature.column], dtype=object) == feature.column_value
        else:
            matrix[:, position] = np.asarray(columns[feature.column or feature.name])
    return matrix


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 UTC, rounded up: events before that number are before the moment."""
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
    # Exact: for equal amounts it is 0 and not almost 0, since the z-score divides by it.
    squares = count * sum(amount * amount for amount in cents) - total * total
    return {
        f"transactions_{days}d": count,
        f"amount_sum_{days}d": total / 100,
        f"amount_mean_{days}d": total / count / 100,
        f"amount_stddev_{days}d": sqrt(squares) / count / 100,
        f"amount_max_{days}d": max(cents) / 100,
    }


def _confirmed_frauds(events: UserEvents, moment: int) -> int:
    """Payments whose newest label by then is fraud."""
    if not len(events.label_payment):
        return 0
    reports = zip(
        events.label_reported_at.tolist(),
        events.label_payment.tolist(),
        events.label_is_fraud.tolist(),
        strict=True,
    )
    newest = {payment: is_fraud for reported_at, payment, is_fraud in sorted(reports) if reported_at <= moment}
    return sum(newest.values())


def _seconds_between(last: datetime, moment: datetime) -> float:
    # A payment that arrives late is before the snapshot's last one.
    return min(max((moment - last).total_seconds(), 0.0), LONGEST_WINDOW_SECONDS)


def _json(features: _State) -> str:
    values = {name: getattr(features, name) for name in features.__match_args__}
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

"""The features of the fraud model: names, order, types, defaults and formulas. This is their only definition.

Pure: numpy and the standard library only, no I/O. Copied into the training, serving and Airflow images. Upstream are
Gold (mart_training_examples, mart_fraud_features, mart_merchant_risk) and Redis; downstream is the model. SQL computes
the same numbers for a training example as `UserFeatures.to_array` computes for a live payment at the same instant.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from datetime import UTC, datetime, timedelta
from math import log, sqrt
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Redis keys of the batch snapshots from Gold, and how long a snapshot is valid. Those of merchants stay, since only
# they have the categories; `feature_store/freshness.py` says whether the rest of them is of use.
USER_KEY = "user_features:{}"
MERCHANT_KEY = "merchant_features:{}"
# And of the risks of merchants' categories: a JSON object.
CATEGORY_RISKS_KEY = "category_risks"
SNAPSHOT_SECONDS = 24 * 3600

# What the snapshots' values mean: a reader accepts no other version. New or removed features are recognised by name.
SNAPSHOT_VERSION = 1

# The data clock is the third-newest of the users' newest event times, so that two wrong rows can't move it; the
# variable `data_clock_rank` in dbt_project.yml is the same for the SQL.
DATA_CLOCK_RANK = 3

# `windows` and `short_windows` in dbt_project.yml are the same for the SQL: in days, and in minutes by name.
WINDOWS_DAYS = (1, 7, 30)
SHORT_WINDOWS_MINUTES = {"10m": 10, "1h": 60, "6h": 360}
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
LONGEST_WINDOW_SECONDS = 30 * 86_400.0
# The lowest amount that counts as high and the highest one that counts as small; `high_amount` and `small_amount` in
# dbt_project.yml are the same for the SQL.
HIGH_AMOUNT_CENTS = 50_000
SMALL_AMOUNT_CENTS = 500
# Logarithms of amounts are whole numbers of this many steps, so that their sums are exact in whatever order they are
# added; `log_steps` in dbt_project.yml is the same for the SQL.
LOG_STEPS = 1024
# So many users of a device are counted, no more; `device_users_counted` in dbt_project.yml is the same for the SQL.
DEVICE_USERS_COUNTED = 20
# So many hours before and after the hour of a payment are its time of the day.
NEAR_HOURS = 2
# The default of `seconds_since_merchant` and `seconds_since_device`.
USUAL_SECONDS = 86_400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEVICE_TYPES = ("mobile", "web", "atm", "pos")
NIGHT_ENDS_AT = 6
# Where the euro is the currency of the country; `euro_countries` in dbt_project.yml is the same for the SQL. All other
# currencies begin with the country's code (ISO 4217), but for a few countries that use another one's.
EURO_COUNTRIES = frozenset(
    "AD AT BE BG CY DE EE ES FI FR GR HR IE IT LT LU LV MC ME MT NL PT SI SK SM VA XK".split()  # noqa: SIM905
)
# ISO 4217 for no currency, as replay sends it where a file has none.
NO_CURRENCY = "XXX"
# Of a category that the seed of merchants lacks: medium.
UNKNOWN_CATEGORY_RISK = 1


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model.

    A formula is a Python expression over `payment`, `moment` (its time in UTC), `user` and `merchant`. Features of the
    other sources need none: they are fields of the class of their source.

    source      depends on                      class                           in a snapshot
    payment     the payment                     Payment                         -
    user        the user's past                 UserFeatures                    yes
    merchant    the merchant's past             MerchantFeatures                yes
    habit       the payment and the two above   a formula                       -
    novelty     the payment and the events of   Novelty                         no: events are needed
                the user's past
    device      the device's past               DeviceFeatures                  no: it is in the stream's state only
    """

    name: str
    source: Literal["payment", "user", "merchant", "habit", "novelty", "device"]
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
    # What it is measured with: bench/feature_groups.py says what each group is worth beside the base.
    group: str = "base"

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


def _velocity(window: str) -> Iterable[Feature]:
    """The features of a user's payments in one short window."""
    minutes = SHORT_WINDOWS_MINUTES[window]
    yield Feature(f"transactions_{window}", "user", 0, f"Payments of the user, last {minutes} min.", group="velocity")
    yield Feature(f"amount_sum_{window}", "user", 0.0, "Sum of their amounts.", group="velocity")


def _reported_frauds(days: int) -> Feature:
    return Feature(
        f"frauds_reported_{days}d",
        "user",
        0,
        f"Those of the confirmed frauds that were reported in the last {days} d.",
        group="reported frauds",
    )


def _merchant_window(days: int) -> Iterable[Feature]:
    """The features of a merchant in one window; `MerchantFeatures.from_days` computes them from counts."""
    yield Feature(f"merchant_transactions_{days}d", "merchant", 0, f"Payments at the merchant, {days} d before today.")
    yield Feature(
        f"merchant_fraud_rate_{days}d", "merchant", 0.0, "Share of them known as fraud at 00:00 UTC of the day."
    )
    yield Feature(
        f"merchant_frauds_reported_{days}d",
        "merchant",
        0,
        f"How many more of its payments of 30 d are known as frauds at 00:00 UTC than {days} d earlier.",
        group="reported frauds",
    )


def _device_window(days: int) -> Feature:
    return Feature(
        f"device_frauds_reported_{days}d",
        "device",
        0,
        f"How many more of its payments of 30 d are known as frauds at 00:00 UTC than {days} d earlier.",
        group="devices",
    )


# Every feature, in the order of the model's input. An unknown user counts as average, and does what is usual: nothing
# about the payment is new. So does a user whose events are not at hand, because only a snapshot is.
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
        "Risk of the category that the payment gives, else of the merchant's: 0 low, 1 medium or unknown, 2 high.",
        "merchant.merchant_category_risk if payment.category_risk is None else payment.category_risk",
    ),
    Feature(
        "is_local_currency",
        "payment",
        -1,
        "1 if the currency is that of the payment's country, 0 if another one, -1 if one of the two is not given.",
        "local_currency(payment.currency, payment.country)",
        group="currency",
    ),
    *(feature for days in WINDOWS_DAYS for feature in _amounts_of_window(days)),
    Feature("distinct_merchants_30d", "user", 0, "Different merchants that the user paid in the last 30 days."),
    Feature("distinct_countries_30d", "user", 0, "Different countries of these payments."),
    Feature("distinct_devices_30d", "user", 0, "Different devices of these payments."),
    Feature("international_ratio_30d", "user", 0.0, "Share of international payments among these."),
    Feature("high_amount_ratio_30d", "user", 0.0, "Share of high amounts among these."),
    *(feature for window in SHORT_WINDOWS_MINUTES for feature in _velocity(window)),
    Feature("small_transactions_1h", "user", 0, "Payments of small amounts, last 60 min.", group="velocity"),
    Feature("small_transactions_1d", "user", 0, "Payments of small amounts, last 24 h.", group="velocity"),
    Feature(
        "new_merchants_1d",
        "user",
        0,
        "Merchants that the user paid in the last day and not in the 29 before.",
        group="new merchants",
    ),
    Feature("confirmed_frauds", "user", 0, "The user's payments, of any age, whose newest label is fraud."),
    *(_reported_frauds(days) for days in WINDOWS_DAYS),
    *(feature for days in WINDOWS_DAYS for feature in _merchant_window(days)),
    Feature(
        "merchant_log_mean_30d",
        "merchant",
        0.0,
        "Mean logarithm of the amounts, in cents, of its 30 days.",
        group="amounts at the merchant",
    ),
    Feature(
        "merchant_log_stddev_30d",
        "merchant",
        0.0,
        "Standard deviation of these logarithms (population).",
        group="amounts at the merchant",
    ),
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
    Feature(
        "new_merchants_1d_ratio",
        "habit",
        0.0,
        "Share of the last day's payments that were the first at their merchant.",
        "user.new_merchants_1d / user.transactions_1d",
        known_if="user.transactions_1d",
        group="new merchants",
    ),
    Feature(
        "merchant_amount_zscore_30d",
        "habit",
        0.0,
        "The merchant's standard deviations between the logarithm of the amount and the mean logarithm there.",
        "(log_steps(payment.amount) / LOG_STEPS - merchant.merchant_log_mean_30d) / merchant.merchant_log_stddev_30d",
        known_if="merchant.merchant_log_stddev_30d > 0",
        group="amounts at the merchant",
    ),
    Feature(
        "is_new_merchant_30d",
        "novelty",
        0,
        "1 if the user paid, but not at this merchant, in the last 30 days.",
        group="novelty",
    ),
    Feature(
        "is_new_device_30d",
        "novelty",
        0,
        "1 if the user paid, but not with this device, in the last 30 days.",
        group="novelty",
    ),
    Feature(
        "is_new_country_30d",
        "novelty",
        0,
        "1 if the user paid, but not in this country, in the last 30 days.",
        group="novelty",
    ),
    Feature(
        "merchant_share_30d",
        "novelty",
        1.0,
        "Share of the user's payments of 30 days at this merchant.",
        group="novelty",
    ),
    Feature(
        "device_share_30d", "novelty", 1.0, "Share of the user's payments of 30 days with this device.", group="novelty"
    ),
    Feature(
        "seconds_since_merchant",
        "novelty",
        USUAL_SECONDS,
        "Seconds since the user last paid at this merchant, at most 30 days.",
        group="novelty",
    ),
    Feature(
        "seconds_since_device",
        "novelty",
        USUAL_SECONDS,
        "Seconds since the user last paid with this device, at most 30 days.",
        group="novelty",
    ),
    Feature(
        "hour_share_30d",
        "novelty",
        1.0,
        "Share of the user's payments of 30 days within 2 h of this hour, UTC.",
        group="hour habit",
    ),
    Feature(
        "device_users_30d",
        "device",
        0,
        f"Users who paid with this device in the 30 d before today, at most {DEVICE_USERS_COUNTED}.",
        group="devices",
    ),
    Feature(
        "device_users_today",
        "device",
        0,
        f"Users who paid with it since 00:00 UTC, at most {DEVICE_USERS_COUNTED}.",
        group="devices",
    ),
    *(_device_window(days) for days in WINDOWS_DAYS),
)

# All windows of a user by name, longest first, and how long they are in milliseconds.
_WINDOWS = {f"{days}d": days * DAY_MS for days in reversed(WINDOWS_DAYS)} | {
    window: minutes * MINUTE_MS for window, minutes in reversed(SHORT_WINDOWS_MINUTES.items())
}
_LENGTHS = list(_WINDOWS.values())

PAYMENT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "payment")
USER_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "user")
MERCHANT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "merchant")
HABIT_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "habit")
NOVELTY_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "novelty")
DEVICE_FEATURES = tuple(feature.name for feature in ALL_FEATURES if feature.source == "device")
FEATURES = tuple(feature.name for feature in ALL_FEATURES)
# The features of each group, in the order of the model's input.
FEATURE_GROUPS = {
    group: tuple(feature.name for feature in ALL_FEATURES if feature.group == group)
    for group in dict.fromkeys(feature.group for feature in ALL_FEATURES)
}

# Columns of mart_training_examples that `training_matrix` reads.
TRAINING_COLUMNS = tuple(dict.fromkeys(feature.column or feature.name for feature in ALL_FEATURES))

# All formulas as one function. Compiled once, because a call for each feature would take several times as long.
_vector = eval(
    f"lambda payment, moment, user, merchant, novelty, device: ({', '.join(each.expression for each in ALL_FEATURES)},)"
)


class Parties(NamedTuple):
    """Where a payment was made, in which country and with which device, as numbers: those of `UserEvents`.

    A country or device that is not given is a value of its own.
    """

    merchant: int
    country: int
    device: int


@dataclass(frozen=True, slots=True)
class Payment:
    """What the request says. An unknown device type is None: none of the four device features is set."""

    amount: float
    is_international: bool
    event_time: datetime
    device_type: str | None = None
    currency: str | None = None
    country: str | None = None
    # That of the merchant's category that the payment gives; None if it gives none.
    category_risk: int | None = None


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


class DeviceUser(NamedTuple):
    """A user's first payment of a day with a device, in milliseconds since 1970 UTC."""

    user: bytes
    first_payment: int


class MerchantDay(NamedTuple):
    """What a merchant's payments of one day add up to."""

    payments: int
    # Of `log_steps` of their amounts.
    log_sum: int = 0
    log_squares: int = 0


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

    def reference(self) -> Self:
        """What does not get old: the category and its risk; everything else is as of an unknown merchant."""
        return type(self)(merchant_category=self.merchant_category, merchant_category_risk=self.merchant_category_risk)

    @classmethod
    def from_days(
        cls, days: Mapping[int, MerchantDay], frauds: Iterable[FraudChange], as_of: datetime, reference: Self
    ) -> Self:
        """The state at 00:00 UTC of the day of `as_of`.

        Args:
            days: by day since 1970.
            frauds: those that became known, and those that were cleared.
            reference: has the merchant's category, which payments do not say.
        """
        today = milliseconds(as_of) // DAY_MS
        counts = _by_window(today, ((day, totals.payments) for day, totals in days.items()))
        frauds = list(frauds)
        bad = _by_window(today, ((fraud.day, fraud.change) for fraud in frauds if fraud.known_on <= today))
        numbers: dict[str, Any] = {}
        for length, count, known in zip(WINDOWS_DAYS, counts, bad, strict=True):
            numbers[f"merchant_transactions_{length}d"] = count
            numbers[f"merchant_fraud_rate_{length}d"] = known / count if count else 0.0
        for length, change in zip(WINDOWS_DAYS, _reported(today, frauds), strict=True):
            numbers[f"merchant_frauds_reported_{length}d"] = change
        month = [totals for day, totals in days.items() if 0 < today - day <= WINDOWS_DAYS[-1]]
        if count := sum(totals.payments for totals in month):
            log_sum, squares = sum(totals.log_sum for totals in month), sum(totals.log_squares for totals in month)
            numbers["merchant_log_mean_30d"] = log_sum / count / LOG_STEPS
            # Exact, and so 0 for equal amounts, since the z-score divides by it.
            numbers["merchant_log_stddev_30d"] = sqrt(count * squares - log_sum * log_sum) / count / LOG_STEPS
        return replace(reference, **numbers, as_of=EPOCH + timedelta(days=today))


class Novelty(make_dataclass("_Novelty", _fields(*NOVELTY_FEATURES), frozen=True, slots=True)):  # type: ignore[misc]
    """What is new about a payment for its user; the defaults are those of a user without payments.

    It depends on the payment and on the events of its user. So a snapshot does not have it, and a payment whose user
    is known by a snapshot only gets the defaults.
    """

    __slots__ = ()

    @classmethod
    def from_events(cls, events: UserEvents, parties: Parties, event_time: datetime) -> Self:
        """Compare a payment with its user's payments in the 30 days just before it."""
        moment = milliseconds(event_time)
        begin, end = events.event_time.searchsorted([moment - _LENGTHS[0], moment]).tolist()
        if begin == end:
            return cls()
        times = events.event_time[begin:end].tolist()
        at_merchant, last_at_merchant = _same(events.merchant[begin:end].tolist(), parties.merchant)
        with_device, last_with_device = _same(events.device[begin:end].tolist(), parties.device)
        hour = moment // HOUR_MS
        near = sum((time // HOUR_MS - hour + NEAR_HOURS) % 24 <= 2 * NEAR_HOURS for time in times)
        return cls(
            is_new_merchant_30d=int(not at_merchant),
            is_new_device_30d=int(not with_device),
            is_new_country_30d=int(parties.country not in events.country[begin:end].tolist()),
            merchant_share_30d=at_merchant / len(times),
            device_share_30d=with_device / len(times),
            seconds_since_merchant=(moment - times[last_at_merchant]) / 1000 if at_merchant else LONGEST_WINDOW_SECONDS,
            seconds_since_device=(moment - times[last_with_device]) / 1000 if with_device else LONGEST_WINDOW_SECONDS,
            hour_share_30d=near / len(times),
        )


NOTHING_NEW = Novelty()


class DeviceFeatures(make_dataclass("_Device", _fields(*DEVICE_FEATURES), frozen=True, slots=True)):  # type: ignore[misc]
    """What is known of a device; the defaults are those of an unknown device, and of a payment that names none."""

    __slots__ = ()

    @classmethod
    def from_days(cls, users: Iterable[DeviceUser], frauds: Iterable[FraudChange], moment: datetime) -> Self:
        """Users and known frauds of whole days before the moment's, and the users of its day before the moment.

        Args:
            users: one for each user and day; of days with more than DEVICE_USERS_COUNTED users, the first ones.
            frauds: those that became known, and those that were cleared.
        """
        now = milliseconds(moment)
        today = now // DAY_MS
        earlier: set[bytes] = set()
        users_today = 0
        for user, first_payment in users:
            age = today - first_payment // DAY_MS
            if 0 < age <= WINDOWS_DAYS[-1]:
                earlier.add(user)
            elif age == 0 and first_payment < now:
                users_today += 1
        reported = zip(WINDOWS_DAYS, _reported(today, frauds), strict=True)
        return cls(
            device_users_30d=min(len(earlier), DEVICE_USERS_COUNTED),
            device_users_today=min(users_today, DEVICE_USERS_COUNTED),
            **{f"device_frauds_reported_{days}d": change for days, change in reported},
        )


UNKNOWN_DEVICE = DeviceFeatures()


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
        *begins, end = events.event_time.searchsorted([moment - length for length in _LENGTHS] + [moment + including])
        month = int(begins[0])
        cents = events.cents[month:end].tolist()
        # Where each window begins in `cents`.
        start = dict(zip(_WINDOWS, (int(begin) - month for begin in begins), strict=True))
        numbers: dict[str, Any] = {}
        for days in WINDOWS_DAYS:
            numbers |= _amounts(cents[start[f"{days}d"] :], days)
        for window in SHORT_WINDOWS_MINUTES:
            amounts = cents[start[window] :]
            numbers[f"transactions_{window}"] = len(amounts)
            numbers[f"amount_sum_{window}"] = sum(amounts) / 100
        for window in ("1h", "1d"):
            numbers[f"small_transactions_{window}"] = _count_small(cents[start[window] :])
        if cents:
            merchants = events.merchant[month:end].tolist()
            distinct = len(set(merchants))
            numbers["distinct_merchants_30d"] = distinct
            numbers["new_merchants_1d"] = distinct - len(set(merchants[: start["1d"]]))
            numbers["distinct_countries_30d"] = len(set(events.country[month:end].tolist()))
            numbers["distinct_devices_30d"] = len(set(events.device[month:end].tolist()))
            numbers["international_ratio_30d"] = sum(events.is_international[month:end].tolist()) / len(cents)
            high = sum(amount >= HIGH_AMOUNT_CENTS for amount in cents)
            numbers["high_amount_ratio_30d"] = high / len(cents)
            numbers["last_event_time"] = EPOCH + timedelta(milliseconds=int(events.event_time[end - 1]))
        return cls(**numbers, **_known_frauds(events, moment), as_of=as_of)

    def to_array(
        self,
        payment: Payment,
        merchant: MerchantFeatures,
        novelty: Novelty = NOTHING_NEW,
        device: DeviceFeatures = UNKNOWN_DEVICE,
    ) -> NDArray[np.float32]:
        """The model's input for one payment: shape (len(FEATURES),), in the order of FEATURES."""
        moment = payment.event_time.astimezone(UTC)
        return np.array(_vector(payment, moment, self, merchant, novelty, device), dtype=np.float32)


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


def local_currency(currency: str | None, country: str | None) -> int:
    """Whether a currency is that of a country (ISO 3166-1 alpha-2): 1 or 0; -1 if one of the two is not given."""
    if not currency or currency == NO_CURRENCY or len(country or "") != 2:
        return -1
    return int(currency[:2] == country or (currency == "EUR" and country in EURO_COUNTRIES))


def log_steps(amount: float) -> int:
    """The natural logarithm of an amount, in cents, as a whole number of steps of 1 / LOG_STEPS."""
    return round(log(max(round(amount * 100), 1)) * LOG_STEPS)


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


def _reported(today: int, frauds: Iterable[FraudChange]) -> list[int]:
    """For each window, how many more payments of the longest one are known as frauds than at the window's start."""
    sums = [0] * len(WINDOWS_DAYS)
    for fraud in frauds:
        age = today - fraud.known_on
        if age >= 0 and 0 < today - fraud.day <= WINDOWS_DAYS[-1]:
            for position, days in enumerate(WINDOWS_DAYS):
                if age < days:
                    sums[position] += fraud.change
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


def _count_small(cents: list[int]) -> int:
    return sum(amount <= SMALL_AMOUNT_CENTS for amount in cents)


def _same(values: list[int], value: int) -> tuple[int, int]:
    """How often a value is among others, and the position of the last one; -1 if there is none."""
    count = values.count(value)
    return count, len(values) - 1 - values[::-1].index(value) if count else -1


def _known_frauds(events: UserEvents, moment: int) -> dict[str, int]:
    """Payments whose newest label by then is fraud: of any age, and by the time of the report."""
    if not len(events.label_payment):
        return {}
    reports = zip(
        events.label_reported_at.tolist(),
        events.label_payment.tolist(),
        events.label_is_fraud.tolist(),
        strict=True,
    )
    newest = {
        payment: (is_fraud, reported_at) for reported_at, payment, is_fraud in sorted(reports) if reported_at <= moment
    }
    ages = [moment - reported_at for is_fraud, reported_at in newest.values() if is_fraud]
    reported = {f"frauds_reported_{days}d": sum(age <= days * DAY_MS for age in ages) for days in WINDOWS_DAYS}
    return {"confirmed_frauds": len(ages)} | reported


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

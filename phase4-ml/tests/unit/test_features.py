"""The features' one definition: names, vector and snapshots, and that training and serving compute the same numbers."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import oracle
import pytest
from feature_store.layout import (
    DEVICE_FRAUDS,
    DEVICE_USERS,
    MERCHANT_DAYS,
    device_number,
    merchant_number,
    parties_of,
    unpack_device,
    unpack_merchant,
)
from feature_world import Streamed, learned_matrix, make_examples, make_world
from features import (
    ALL_FEATURES,
    DAY_MS,
    DEVICE_FEATURES,
    DEVICE_TYPES,
    DEVICE_USERS_COUNTED,
    EPOCH,
    FEATURES,
    HABIT_FEATURES,
    LONGEST_WINDOW_SECONDS,
    MERCHANT_FEATURES,
    NOVELTY_FEATURES,
    PAYMENT_FEATURES,
    SNAPSHOT_VERSION,
    TRAINING_COLUMNS,
    USER_FEATURES,
    DeviceFeatures,
    DeviceUser,
    FraudChange,
    MerchantDay,
    MerchantFeatures,
    Novelty,
    Parties,
    Payment,
    UserEvents,
    UserFeatures,
    log_steps,
    milliseconds,
)

AS_OF = datetime(2024, 11, 29, 14, tzinfo=UTC)


def events_at(*times: datetime, cents: int = 1000) -> UserEvents:
    """A user's payments at these moments, each at another merchant, without labels."""
    moments = np.array([milliseconds(time) for time in times], dtype=np.int64)
    numbers, zeros = np.arange(len(times)), np.zeros(len(times), dtype=np.int64)
    none = np.array([], dtype=np.int64)
    return UserEvents(moments, zeros + cents, zeros, numbers, zeros, zeros, none, none, none)


def test_names_are_unique_and_grouped_by_source() -> None:
    assert len(FEATURES) == len(set(FEATURES))
    assert (
        FEATURES
        == PAYMENT_FEATURES + USER_FEATURES + MERCHANT_FEATURES + HABIT_FEATURES + NOVELTY_FEATURES + DEVICE_FEATURES
    )
    assert all(feature.meaning.endswith(".") for feature in ALL_FEATURES)


def test_training_reads_what_the_vector_needs() -> None:
    assert set(FEATURES) - set(TRAINING_COLUMNS) == {f"is_{device}" for device in DEVICE_TYPES}
    assert set(TRAINING_COLUMNS) - set(FEATURES) == {"device_type"}


def test_states_have_the_features_of_their_source() -> None:
    names = [field.name for field in dataclasses.fields(UserFeatures)]
    assert names == [*USER_FEATURES, "last_event_time", "as_of"]
    names = [field.name for field in dataclasses.fields(MerchantFeatures)]
    assert names == ["merchant_category", "merchant_category_risk", *MERCHANT_FEATURES, "as_of"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        UserFeatures().transactions_1d = 1


def test_an_unknown_user_at_an_unknown_merchant_has_the_defaults() -> None:
    vector = UserFeatures().to_array(Payment(12.5, True, AS_OF, "web"), MerchantFeatures())
    values = dict(zip(FEATURES, vector.tolist(), strict=True))
    assert vector.dtype == np.float32
    for feature in ALL_FEATURES:
        if feature.source != "payment":
            assert values[feature.name] == feature.default, feature.name
    expected = {"amount": 12.5, "is_international": 1, "event_hour": 14, "is_night": 0, "merchant_category_risk": 1}
    devices = {"is_mobile": 0, "is_web": 1, "is_atm": 0, "is_pos": 0}
    assert values.items() >= (expected | devices).items()


@pytest.mark.parametrize(
    ("currency", "country", "expected"),
    [
        ("EUR", "DE", 1),
        ("GBP", "GB", 1),
        ("USD", "DE", 0),
        ("EUR", "GB", 0),
        # Not given, or not a country's code.
        (None, "DE", -1),
        ("XXX", "DE", -1),
        ("EUR", None, -1),
        ("EUR", "", -1),
        ("EUR", "Germany", -1),
    ],
)
def test_a_currency_is_that_of_the_country_or_another(currency: str, country: str, expected: int) -> None:
    payment = Payment(12.5, False, AS_OF, currency=currency, country=country)
    vector = UserFeatures().to_array(payment, MerchantFeatures())
    assert vector[FEATURES.index("is_local_currency")] == expected


@pytest.mark.parametrize(("given", "expected"), [(None, 2), (0, 0), (1, 1)])
def test_the_category_that_a_payment_gives_wins_over_the_merchants(given: int | None, expected: int) -> None:
    payment = Payment(12.5, False, AS_OF, category_risk=given)
    vector = UserFeatures().to_array(payment, MerchantFeatures(merchant_category_risk=2))
    assert vector[FEATURES.index("merchant_category_risk")] == expected


def test_habits_compare_the_payment_with_the_user() -> None:
    user = UserFeatures(
        transactions_1d=2,
        transactions_30d=8,
        amount_sum_1d=50.0,
        amount_sum_30d=400.0,
        amount_mean_30d=50.0,
        amount_stddev_30d=25.0,
        last_event_time=AS_OF - timedelta(minutes=1),
    )
    vector = user.to_array(Payment(100.0, False, AS_OF), MerchantFeatures())
    values = dict(zip(FEATURES, vector.tolist(), strict=True))
    assert values["amount_to_mean_30d"] == 2.0 and values["amount_zscore_30d"] == 2.0
    assert values["seconds_since_last"] == 60.0
    assert values["transactions_1d_to_30d"] == 0.25 and values["amount_1d_to_30d"] == 0.125
    # A payment that arrives late, and one long after the last.
    for moment, seconds in ((AS_OF - timedelta(days=1), 0.0), (AS_OF + timedelta(days=90), LONGEST_WINDOW_SECONDS)):
        vector = user.to_array(Payment(100.0, False, moment), MerchantFeatures())
        assert dict(zip(FEATURES, vector.tolist(), strict=True))["seconds_since_last"] == seconds


@pytest.mark.parametrize("seed", [1, 2])
def test_an_example_is_the_vector_of_the_same_payment_at_the_same_instant(seed: int) -> None:
    examples = make_examples(seed)
    learned = learned_matrix(examples)
    scored = np.stack(
        [
            UserFeatures.from_json(example.user.to_json()).to_array(
                example.payment,
                MerchantFeatures.from_json(example.merchant.to_json()),
                example.novelty,
                example.device,
            )
            for example in examples
        ]
    )
    assert learned.shape == scored.shape == (len(examples), len(FEATURES))
    for position, name in enumerate(FEATURES):
        np.testing.assert_allclose(scored[:, position], learned[:, position], rtol=1e-6, atol=1e-6, err_msg=name)
        # A feature that is the same for all would prove nothing.
        assert len(np.unique(scored[:, position])) > 1, name


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_stream_keeps_gives_the_same_numbers_as_the_oracle(seed: int) -> None:
    payments, labels, _ = make_world(np.random.default_rng(seed))
    world = Streamed.of(payments, labels)
    for example in make_examples(seed):
        row, moment = example.row, example.payment.event_time
        events = world.users[row["user_id"]]
        days, frauds = unpack_merchant(world.hashes[MERCHANT_DAYS.format(merchant_number(row["merchant_id"]))])
        number = device_number(row["device_id"])
        device = unpack_device(
            world.device_users[DEVICE_USERS.format(number)], world.hashes[DEVICE_FRAUDS.format(number)]
        )
        streamed: dict[str, Any] = {}
        for state in (
            UserFeatures.from_events(events, moment),
            Novelty.from_events(events, parties_of(row["merchant_id"], row["country"], row["device_id"]), moment),
            MerchantFeatures.from_days(days, frauds, moment, MerchantFeatures()),
            DeviceFeatures.from_days(*device, moment),
        ):
            streamed |= dataclasses.asdict(state)
        names = (*USER_FEATURES, *NOVELTY_FEATURES, *MERCHANT_FEATURES, *DEVICE_FEATURES)
        oracle.assert_same(streamed, {name: example.columns[name] for name in names}, row["transaction_id"])


def test_a_snapshot_comes_back_as_it_was() -> None:
    user = UserFeatures(transactions_1d=3, amount_sum_1d=7.25, last_event_time=AS_OF, as_of=AS_OF)
    assert UserFeatures.from_json(user.to_json()) == user
    merchant = MerchantFeatures("gaming", 2, 100, 0.01, as_of=AS_OF)
    assert MerchantFeatures.from_json(merchant.to_json().encode()) == merchant
    snapshot = json.loads(merchant.to_json())
    assert snapshot == {
        "version": SNAPSHOT_VERSION,
        "merchant_category": "gaming",
        "merchant_category_risk": 2,
        **dict.fromkeys(MERCHANT_FEATURES, 0),
        "merchant_transactions_1d": 100,
        "merchant_fraud_rate_1d": 0.01,
        "as_of": "2024-11-29T14:00:00+00:00",
    }


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"version":99}', '{"version":1,"amount_sum_1d":1}'])
def test_a_snapshot_of_another_program_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        UserFeatures.from_json(text)


def test_a_row_of_gold_becomes_a_state() -> None:
    row = {field.name: field.default for field in dataclasses.fields(UserFeatures)}
    assert UserFeatures.from_row(row | {"transactions_7d": 5, "note": "not a feature"}).transactions_7d == 5
    with pytest.raises(KeyError):
        UserFeatures.from_row({"transactions_7d": 5})


def test_windows_end_just_before_the_moment() -> None:
    day = timedelta(days=1)
    events = events_at(AS_OF - 30 * day, AS_OF - 7 * day, AS_OF - day, AS_OF - timedelta(seconds=1), AS_OF)
    user = UserFeatures.from_events(events, AS_OF)
    assert (user.transactions_1d, user.transactions_7d, user.transactions_30d) == (2, 3, 4)
    assert user.last_event_time == AS_OF - timedelta(seconds=1)
    assert user.distinct_merchants_30d == 4
    including = UserFeatures.from_events(events, AS_OF, including=True)
    assert (including.transactions_1d, including.last_event_time) == (3, AS_OF)
    assert UserFeatures.from_events(events, AS_OF - 60 * day) == UserFeatures(as_of=AS_OF - 60 * day)


def test_equal_amounts_have_no_deviation_at_all() -> None:
    user = UserFeatures.from_events(events_at(*[AS_OF - timedelta(hours=1)] * 7, cents=3333), AS_OF)
    assert user.amount_stddev_1d == 0.0
    assert user.amount_sum_1d == 233.31


def test_the_newest_label_by_then_counts() -> None:
    hour = milliseconds(AS_OF - timedelta(hours=1))
    # Payment 1 was cleared after a report of fraud; payment 2 is fraud; the label on payment 3 is not known yet.
    events = dataclasses.replace(
        events_at(AS_OF),
        label_payment=np.array([1, 1, 2, 3]),
        label_reported_at=np.array([hour, hour + 1, hour, milliseconds(AS_OF) + 1]),
        label_is_fraud=np.array([1, 0, 1, 1]),
    )
    assert UserFeatures.from_events(events, AS_OF).confirmed_frauds == 1


def test_frauds_count_when_they_are_reported() -> None:
    """F1: labels come a week after their payments, so windows by the payments' time are empty."""
    day = timedelta(days=1)
    reports = np.array([milliseconds(AS_OF - age) for age in (day, 3 * day, 8 * day, 31 * day, timedelta(0))])
    events = dataclasses.replace(
        events_at(AS_OF - 40 * day),
        label_payment=np.arange(5),
        label_reported_at=reports,
        label_is_fraud=np.ones(5, dtype=np.int64),
    )
    user = UserFeatures.from_events(events, AS_OF)
    assert (user.frauds_reported_1d, user.frauds_reported_7d, user.frauds_reported_30d) == (2, 3, 4)
    assert user.confirmed_frauds == 5


def test_velocity_counts_the_last_minutes_and_hours() -> None:
    ages = [timedelta(hours=6), timedelta(hours=1), timedelta(minutes=10), timedelta(minutes=10, milliseconds=1)]
    events = events_at(*sorted(AS_OF - age for age in ages), cents=500)
    user = UserFeatures.from_events(events, AS_OF)
    assert (user.transactions_10m, user.transactions_1h, user.transactions_6h) == (1, 3, 4)
    assert (user.amount_sum_10m, user.amount_sum_1h, user.amount_sum_6h) == (5.0, 15.0, 20.0)
    assert (user.small_transactions_1h, user.small_transactions_1d) == (3, 4)
    assert UserFeatures.from_events(events_at(AS_OF - ages[2], cents=501), AS_OF).small_transactions_1h == 0


def test_new_merchants_are_those_of_the_last_day_only() -> None:
    day = timedelta(days=1)
    events = events_at(AS_OF - 29 * day, AS_OF - 2 * day, AS_OF - day, AS_OF - day / 2)
    known = dataclasses.replace(events, merchant=np.array([1, 2, 1, 3]))
    assert UserFeatures.from_events(known, AS_OF).new_merchants_1d == 1
    # After more than 30 days a merchant is new again.
    long_ago = dataclasses.replace(events_at(AS_OF - 31 * day, AS_OF - day), merchant=np.array([1, 1]))
    assert UserFeatures.from_events(long_ago, AS_OF).new_merchants_1d == 1


def test_novelty_compares_a_payment_with_those_before() -> None:
    hour = timedelta(hours=1)
    events = dataclasses.replace(
        events_at(AS_OF - 31 * 24 * hour, AS_OF - 26 * hour, AS_OF - 3 * hour, AS_OF - hour, AS_OF),
        merchant=np.array([7, 1, 1, 2, 7]),
        country=np.array([9, 1, 1, 1, 9]),
        device=np.array([7, 5, 6, 6, 7]),
    )
    usual = Novelty.from_events(events, Parties(merchant=1, country=1, device=5), AS_OF)
    assert usual == Novelty(
        merchant_share_30d=2 / 3,
        device_share_30d=1 / 3,
        seconds_since_merchant=3 * 3600.0,
        seconds_since_device=26 * 3600.0,
        hour_share_30d=2 / 3,
    )
    new = Novelty.from_events(events, Parties(merchant=7, country=9, device=7), AS_OF)
    assert (new.is_new_merchant_30d, new.is_new_country_30d, new.is_new_device_30d) == (1, 1, 1)
    assert new.seconds_since_merchant == new.seconds_since_device == LONGEST_WINDOW_SECONDS
    assert (new.merchant_share_30d, new.device_share_30d) == (0, 0)
    # Without a payment in 30 days nothing is new.
    assert Novelty.from_events(events, Parties(7, 9, 7), AS_OF + 60 * 24 * hour) == Novelty()


@pytest.mark.parametrize(("hour", "near"), [(21, 0), (22, 1), (23, 1), (0, 1), (1, 1), (2, 1), (3, 0), (12, 0)])
def test_hours_are_near_across_midnight(hour: int, near: int) -> None:
    midnight = AS_OF.replace(hour=0, minute=30)
    events = events_at(midnight - timedelta(days=2) + timedelta(hours=hour))
    assert Novelty.from_events(events, Parties(0, 0, 0), midnight).hour_share_30d == near


def test_a_merchant_is_as_it_was_at_the_start_of_the_day() -> None:
    today = (AS_OF - EPOCH).days
    payments = {today - 31: 100, today - 8: 10, today - 3: 5, today - 1: 2, today: 50}
    days = {day: MerchantDay(count) for day, count in payments.items()}
    frauds = [FraudChange(today - 3, today, 2), FraudChange(today - 3, today + 1, 1), FraudChange(today - 1, today, 1)]
    merchant = MerchantFeatures.from_days(days, frauds, AS_OF, MerchantFeatures("gaming", 2))
    assert (merchant.merchant_category, merchant.merchant_category_risk) == ("gaming", 2)
    assert merchant.merchant_transactions_1d == 2 and merchant.merchant_fraud_rate_1d == 0.5
    assert merchant.merchant_transactions_7d == 7 and merchant.merchant_fraud_rate_7d == 3 / 7
    assert merchant.merchant_transactions_30d == 17
    assert merchant.as_of == AS_OF.replace(hour=0)


def test_frauds_at_a_merchant_count_when_they_are_reported() -> None:
    """F1: reported lately, of payments of 30 days; one that was cleared meanwhile is taken off again."""
    today = (AS_OF - EPOCH).days
    frauds = [
        FraudChange(today - 20, today, 4),
        FraudChange(today - 20, today - 1, 2),
        FraudChange(today - 20, today - 7, 1),
        FraudChange(today - 31, today, 100),
        FraudChange(today - 1, today + 1, 100),
        FraudChange(today - 20, today - 2, -1),
    ]
    merchant = MerchantFeatures.from_days({}, frauds, AS_OF, MerchantFeatures())
    reported = [getattr(merchant, f"merchant_frauds_reported_{days}d") for days in (1, 7, 30)]
    assert reported == [4, 5, 6]


def test_amounts_are_compared_with_those_at_the_merchant() -> None:
    assert (log_steps(0.01), log_steps(10.0)) == (0, 7074)
    today = (AS_OF - EPOCH).days
    days = {
        today: MerchantDay(9, 1, 1),
        today - 1: MerchantDay(2, 0, 0),
        today - 30: MerchantDay(2, 2 * 7074, 2 * 7074**2),
    }
    merchant = MerchantFeatures.from_days(days, [], AS_OF, MerchantFeatures())
    assert merchant.merchant_log_mean_30d == merchant.merchant_log_stddev_30d == 3537 / 1024
    for amount, zscore in ((10.0, 1.0), (0.01, -1.0)):
        vector = UserFeatures().to_array(Payment(amount, False, AS_OF), merchant)
        assert dict(zip(FEATURES, vector.tolist(), strict=True))["merchant_amount_zscore_30d"] == zscore
    # Equal amounts have no deviation at all.
    equal = MerchantFeatures.from_days({today - 1: MerchantDay(3, 3 * 777, 3 * 777**2)}, [], AS_OF, MerchantFeatures())
    assert equal.merchant_log_stddev_30d == 0


def test_a_device_has_users_of_earlier_days_and_of_today() -> None:
    now = milliseconds(AS_OF)
    midnight = now // DAY_MS * DAY_MS
    users = [
        DeviceUser(b"a", midnight - 30 * DAY_MS),
        DeviceUser(b"b", midnight - 1),
        DeviceUser(b"a", midnight - DAY_MS),
        DeviceUser(b"c", midnight - 30 * DAY_MS - 1),
        DeviceUser(b"a", midnight),
        DeviceUser(b"d", now - 1),
        DeviceUser(b"e", now),
    ]
    device = DeviceFeatures.from_days(users, [], AS_OF)
    assert (device.device_users_30d, device.device_users_today) == (2, 2)
    many = [DeviceUser(b"%d" % number, midnight - 1) for number in range(50)]
    assert DeviceFeatures.from_days(many, [], AS_OF).device_users_30d == DEVICE_USERS_COUNTED

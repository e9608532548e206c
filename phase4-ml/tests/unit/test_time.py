"""Time: which moment a payment has, and whether the stream or a snapshot is newer."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from feature_store.freshness import CURRENT_MS, Completeness, partition_of, stream_is_newer
from feature_store.layout import Label, PaymentEvent, payments_field
from features import DAY_MS, FEATURES, LONGEST_WINDOW_SECONDS, MerchantFeatures, UserFeatures, milliseconds
from serving.feature_client import NOTHING, Found, StreamState
from serving.predictor import PaymentFeatures, features_of, moment_of
from serving.schemas import PaymentRequest

NOW = datetime(2026, 3, 4, 11, 22, 33, 444_555, UTC)
WALL = milliseconds(NOW)
# The simulator's clock, at night and on another day of the week.
SIMULATED = datetime(2025, 12, 6, 3, tzinfo=UTC)
CLOCK = milliseconds(SIMULATED)
HOUR_MS = 3_600_000


def a_payment(event_time: int, number: int = 0) -> PaymentEvent:
    return PaymentEvent(f"t{number}", "u1", "m1", event_time, 1000 + number, "DE", "d1", is_international=False)


def request(event_time: datetime | None = None, **optional: str) -> PaymentRequest:
    """A payment of user u1 at merchant m1."""
    found: dict[str, Any] = optional | ({"event_time": event_time.isoformat()} if event_time else {})
    return PaymentRequest(transaction_id="new", user_id="u1", amount=10.0, merchant_id="m1", **found)


def streamed(*times: int, **state: Any) -> Found:
    """What Redis has of a user with payments at these times, read up to now if nothing else is said."""
    state = {"data_clock": CLOCK, "complete": Completeness((WALL,) * 10)} | state
    days = {payments_field(time).encode(): b"5" for time in times}
    events = sorted(a_payment(time, number).pack() for number, time in enumerate(times))
    return Found(events=events, days=days, stream=StreamState(**state))


def value(features: PaymentFeatures, name: str) -> float:
    return float(features.vector[FEATURES.index(name)])


def test_a_payment_happens_when_it_says() -> None:
    for event_time in (datetime(2001, 1, 1, tzinfo=UTC), NOW + timedelta(minutes=4)):
        assert moment_of(event_time, CLOCK, NOW) == event_time


def test_a_payment_without_a_time_happens_now_or_just_after_the_data() -> None:
    assert moment_of(None, CLOCK, NOW) == SIMULATED + timedelta(milliseconds=1)
    assert moment_of(None, WALL - HOUR_MS - 2, NOW) < NOW
    # Live data, a data clock that is ahead, and none.
    assert (
        moment_of(None, WALL - HOUR_MS, NOW) == moment_of(None, WALL + 240_000, NOW) == moment_of(None, 0, NOW) == NOW
    )


def test_all_features_of_a_payment_are_of_one_moment() -> None:
    """B2: README's request for an active simulated user."""
    found = streamed(CLOCK - 3 * HOUR_MS, CLOCK - 40 * HOUR_MS)
    features = features_of(request(), found, NOW)
    assert features.event_time == SIMULATED + timedelta(milliseconds=1)
    assert value(features, "seconds_since_last") == pytest.approx(3 * 3600, abs=0.01)
    assert (value(features, "event_hour"), value(features, "is_night"), value(features, "is_weekend")) == (3, 1, 1)
    assert (value(features, "transactions_1d"), value(features, "transactions_7d")) == (1, 2)
    assert value(features, "merchant_transactions_7d") == 5
    assert features.source == "stream"
    # The same payment with that time has the same vector.
    assert (features_of(request(features.event_time), found, NOW).vector == features.vector).all()


@pytest.mark.parametrize(
    ("category", "risks", "expected"),
    [
        # Of a merchant that nothing is known of, at 1.
        ("gaming", {"gaming": 2, "fuel": 0}, 2),
        ("fuel", {"gaming": 2, "fuel": 0}, 0),
        ("lottery", {"gaming": 2, "fuel": 0}, 1),
        ("", {"gaming": 2}, 1),
        ("gaming", {}, 1),
    ],
)
def test_a_payment_brings_its_own_category_and_currency(category: str, risks: dict[str, int], expected: int) -> None:
    found = streamed(CLOCK - HOUR_MS, category_risks=risks)
    features = features_of(request(merchant_category=category, currency="USD", country="DE"), found, NOW)
    assert value(features, "merchant_category_risk") == expected
    assert value(features, "is_local_currency") == 0
    merchant = MerchantFeatures(merchant_category_risk=2).to_json().encode()
    known = features_of(request(merchant_category=category), replace(found, merchant=merchant), NOW)
    assert value(known, "merchant_category_risk") == (expected if category and risks else 2)
    assert value(known, "is_local_currency") == -1


def test_without_redis_a_payment_happens_now() -> None:
    features = features_of(request(), NOTHING, NOW)
    assert (features.event_time, features.source, features.age_seconds) == (NOW, "default", None)
    assert value(features, "event_hour") == 11


def test_a_row_of_the_wrong_date_affects_its_user_only() -> None:
    """B1: one payment dated today while the data are 90 days old."""
    live = [CLOCK - hours * HOUR_MS for hours in (1, 30, 24 * 29)]
    right = features_of(request(SIMULATED), streamed(*live), NOW)
    wrong = features_of(request(SIMULATED), streamed(*live, WALL), NOW)
    assert right.source == wrong.source == "stream"
    assert (right.vector == wrong.vector).all()
    assert value(wrong, "transactions_30d") == 3
    # Three users with such rows move the data clock; who pays at the right time still has the right windows.
    moved = features_of(request(SIMULATED), streamed(*live, data_clock=WALL), NOW)
    assert moved.source == "stream"
    assert (right.vector == moved.vector).all()


def test_what_is_no_longer_kept_is_not_from_the_stream() -> None:
    user = UserFeatures(amount_sum_30d=7, as_of=SIMULATED - timedelta(days=1))
    found = replace(streamed(CLOCK - HOUR_MS), user=user.to_json().encode())
    day = timedelta(days=1)
    for moment, source in ((SIMULATED, "stream"), (SIMULATED - 2 * day, "stream"), (SIMULATED - 3 * day, "batch")):
        assert features_of(request(moment), found, NOW).source == source
    features = features_of(request(SIMULATED - 365 * day), replace(found, user=None), NOW)
    assert features.source == "default"
    assert value(features, "seconds_since_last") == LONGEST_WINDOW_SECONDS


@dataclass(frozen=True)
class Case:
    """When the stream and the snapshots were complete, in seconds before now; None is never."""

    stream: int | None
    push: int | None
    is_newer: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(stream=0, push=None, is_newer=True),
        # A quiet partition between two looks at its end, while snapshots are pushed.
        Case(stream=6, push=1, is_newer=True),
        Case(stream=CURRENT_MS // 1000, push=0, is_newer=True),
        # Catching up: not yet, and then as far as the last push.
        Case(stream=7200, push=600, is_newer=False),
        Case(stream=600, push=601, is_newer=True),
        # Down, with a pipeline that continues; down together with the pipeline.
        Case(stream=300, push=200, is_newer=False),
        Case(stream=7200, push=9000, is_newer=True),
        # Nothing but the stream: as long as a snapshot would be valid.
        Case(stream=7200, push=None, is_newer=True),
        Case(stream=24 * 3600 + 1, push=None, is_newer=False),
        Case(stream=None, push=None, is_newer=False),
        Case(stream=None, push=600, is_newer=False),
    ],
)
def test_the_newer_one_is_used(case: Case) -> None:
    complete = 0 if case.stream is None else WALL - 1000 * case.stream
    pushed = None if case.push is None else WALL - 1000 * case.push
    assert stream_is_newer(complete, pushed, WALL) == case.is_newer


def test_a_user_is_as_fresh_as_the_users_partition() -> None:
    own = partition_of("u1", 10)
    snapshot = UserFeatures(transactions_30d=1, as_of=SIMULATED - timedelta(minutes=9)).to_json().encode()
    merchant = MerchantFeatures(merchant_transactions_1d=77, as_of=SIMULATED).to_json().encode()
    behind, pushed_at = WALL - 2 * HOUR_MS, WALL - 600_000

    def answer(slow: int, scattered: bool = False, pushed_at: int = pushed_at) -> PaymentFeatures:
        times = tuple(behind if partition == slow else WALL - 4000 for partition in range(10))
        complete = Completeness(times, scattered)
        found = streamed(CLOCK - HOUR_MS, CLOCK - 25 * HOUR_MS, complete=complete, pushed_at=pushed_at)
        return features_of(request(SIMULATED), replace(found, user=snapshot, merchant=merchant), NOW)

    slow, other = answer(slow=own), answer(slow=own - 1)
    assert (slow.source, slow.age_seconds, value(slow, "transactions_30d")) == ("batch", 540, 1)
    assert (other.source, other.age_seconds, value(other, "transactions_30d")) == ("stream", pytest.approx(4.0), 2)
    # A merchant's payments are in all partitions.
    assert value(other, "merchant_transactions_1d") == 77
    assert value(answer(slow=99), "merchant_transactions_1d") == 5
    # The partitions of another producer are unknown.
    assert answer(slow=own - 1, scattered=True).source == "batch"
    assert answer(slow=99, scattered=True).source == "stream"
    # The last push is older than what the slow partition has, and a push whose time is unknown is not.
    older = answer(slow=own, pushed_at=behind - 1)
    assert (older.source, older.age_seconds) == ("stream", pytest.approx(7200.0, abs=0.01))
    assert answer(slow=own, pushed_at=0).source == "batch"


def test_partitions_are_those_of_the_producer() -> None:
    # As librdkafka chose them on a broker.
    assert {user: partition_of(user, 10) for user in ("u1", "Łukasz-7", "店")} == {"u1": 2, "Łukasz-7": 5, "店": 2}


def test_completeness_is_eight_bytes_for_each_partition() -> None:
    value = b"".join(number.to_bytes(8) for number in (5, WALL, 7))
    complete = Completeness.unpack(value, scattered=False)
    assert complete.partitions == (5, WALL, 7)
    assert complete.slowest == 5
    assert complete.of_user("u1") == complete.partitions[partition_of("u1", 3)]
    assert Completeness.unpack(value, scattered=True).of_user("u1") == 5
    for nothing in (None, b"", b"short"):
        assert Completeness.unpack(nothing, scattered=False).of_user("u1") == 0


def test_labels_without_payments_are_covered() -> None:
    label = Label("t1", "u1", CLOCK - 20 * DAY_MS, CLOCK - 10 * DAY_MS, is_fraud=True)
    found = replace(streamed(), labels=[label.pack()])
    features = features_of(request(SIMULATED), found, NOW)
    assert (features.source, value(features, "confirmed_frauds")) == ("stream", 1)

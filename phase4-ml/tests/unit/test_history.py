"""A history that is gone from Redis: the snapshot is used, and the answer says so (field cases E3 and E4)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from feature_store.freshness import Completeness
from feature_store.history import window_to_compare
from feature_store.layout import PaymentEvent, payments_field
from features import DAY_MS, FEATURES, SNAPSHOT_SECONDS, MerchantFeatures, UserFeatures, milliseconds
from serving import metrics
from serving.feature_client import Found, StreamState
from serving.predictor import PaymentFeatures, features_of
from serving.schemas import PaymentRequest

NOW = datetime(2026, 3, 4, 11, 22, 33, tzinfo=UTC)
WALL = milliseconds(NOW)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# 60 payments of 30 days, the last one an hour ago.
HISTORY = [NOW - HOUR - number * 11 * HOUR for number in range(60)]
SNAPSHOT = UserFeatures(transactions_7d=16, transactions_30d=60, as_of=NOW - 30 * MINUTE)
MERCHANT = MerchantFeatures(
    merchant_category="gaming",
    merchant_category_risk=2,
    merchant_transactions_30d=300,
    as_of=NOW.replace(hour=0, minute=0, second=0),
)


def payment(at: datetime) -> bytes:
    name = f"t{milliseconds(at)}"
    return PaymentEvent(name, "u1", "m1", milliseconds(at), 1000, "DE", "d1", is_international=False).pack()


def answered(
    times: list[datetime], snapshot: UserFeatures | None = SNAPSHOT, max_payments: int = 1000, **state: int
) -> PaymentFeatures:
    """The features of a payment of now, of a user whose payments in Redis have these times."""
    stream = StreamState(
        **{"data_clock": WALL - 1000, "pushed_at": WALL - 600_000} | state,
        complete=Completeness((WALL,) * 10),
        max_payments=max_payments,
    )
    found = Found(
        user=snapshot and snapshot.to_json().encode(), events=sorted(payment(at) for at in times), stream=stream
    )
    return features_of(PaymentRequest(transaction_id="new", user_id="u1", amount=1, merchant_id="m1"), found, NOW)


def value(features: PaymentFeatures, name: str) -> float:
    return float(features.vector[FEATURES.index(name)])


def incomplete(of: str) -> float:
    return metrics.INCOMPLETE[of]._value.get()


def test_a_whole_history_comes_from_the_stream() -> None:
    features = answered(HISTORY)
    assert (features.source, value(features, "transactions_30d")) == ("stream", 60)
    # More than Gold knows: payments of the last minutes, and one that arrived late.
    features = answered([*HISTORY, NOW - MINUTE, NOW - 5 * DAY])
    assert (features.source, value(features, "transactions_30d")) == ("stream", 62)


@pytest.mark.parametrize("left", [[], [NOW - MINUTE], HISTORY[:1], HISTORY[:59], HISTORY[1:]], ids=len)
def test_a_user_whose_history_is_gone_is_served_from_the_snapshot(left: list[datetime]) -> None:
    before = incomplete("user")
    features = answered(left)
    assert (features.source, value(features, "transactions_30d")) == ("batch", 60)
    # Without any event nothing says that there is a stream.
    assert incomplete("user") == before + bool(left)


def test_a_user_without_a_snapshot_is_a_newcomer() -> None:
    assert answered([NOW - MINUTE], snapshot=None).source == "stream"
    assert answered([NOW - MINUTE], UserFeatures(transactions_30d=0, as_of=NOW - HOUR)).source == "stream"


def test_a_user_with_more_payments_than_are_kept_is_not_incomplete() -> None:
    assert answered(HISTORY[:40], max_payments=40).source == "stream"
    assert answered(HISTORY[:40], max_payments=41).source == "batch"


def test_only_windows_that_are_kept_are_compared() -> None:
    """Where the simulated clock is fast, the snapshot is days older than the newest payment."""
    old = replace(SNAPSHOT, as_of=NOW - 3 * DAY, transactions_7d=15)
    assert answered(HISTORY, old).source == "stream"
    assert answered(HISTORY[:2], old).source == "batch"
    ancient = replace(SNAPSHOT, as_of=NOW - 400 * DAY)
    assert answered(HISTORY[:2], ancient).source == "stream"


def test_the_longest_window_that_is_kept() -> None:
    as_of = 100 * DAY_MS
    days = {back: window_to_compare(as_of, as_of - back * DAY_MS) for back in (30, 29, 7, 6, 1, 0)}
    assert days == {30: 30, 29: 7, 7: 7, 6: 1, 1: 1, 0: 0}


def merchant(payments_a_day: int, days: int, snapshot: MerchantFeatures | None = MERCHANT, **state: int) -> Found:
    """What Redis has of a merchant with so many payments on each of so many days."""
    times = [WALL - day * DAY_MS for day in range(days)]
    return Found(
        merchant=snapshot and snapshot.to_json().encode(),
        days={payments_field(at).encode(): b"%d" % payments_a_day for at in times},
        stream=StreamState(
            **{"data_clock": WALL - 1000, "pushed_at": WALL - 600_000} | state, complete=Completeness((WALL,) * 10)
        ),
    )


def of_merchant(found: Found) -> tuple[str, float, float]:
    """Where a merchant's features came from, its payments of 30 days, and the risk of its category."""
    request = PaymentRequest(transaction_id="new", user_id="u1", amount=1, merchant_id="m1")
    features = features_of(request, found, NOW)
    risk = value(features, "merchant_category_risk")
    return features.merchant_source, value(features, "merchant_transactions_30d"), risk


def test_a_merchants_source_is_in_the_answer() -> None:
    assert of_merchant(merchant(10, 31)) == ("stream", 300, 2)
    assert of_merchant(merchant(10, 31, snapshot=None)) == ("stream", 300, 1)
    assert of_merchant(Found(merchant=MERCHANT.to_json().encode())) == ("batch", 300, 2)
    assert of_merchant(Found()) == ("default", 0, 1)


def test_a_merchant_whose_totals_are_gone_is_served_from_the_snapshot() -> None:
    before = incomplete("merchant")
    assert of_merchant(merchant(10, 2)) == ("batch", 300, 2)
    assert incomplete("merchant") == before + 1
    # Some late payments less are no loss.
    assert of_merchant(merchant(10, 29))[0] == "stream"


def test_categories_outlive_the_snapshots() -> None:
    """E4: no push for days; the stream is down, too, or has the merchant's days."""
    pushed_at = WALL - (SNAPSHOT_SECONDS + 1) * 1000
    stopped = merchant(10, 0, pushed_at=pushed_at)
    assert of_merchant(stopped) == ("reference", 0, 2)
    assert of_merchant(merchant(10, 31, pushed_at=pushed_at)) == ("stream", 300, 2)
    just_valid = merchant(10, 0, pushed_at=pushed_at + 2000)
    assert of_merchant(just_valid) == ("batch", 300, 2)

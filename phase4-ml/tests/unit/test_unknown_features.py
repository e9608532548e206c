"""Which groups of features rules see as NULL: those that fell back to defaults, and not what is really nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from feature_store.freshness import Completeness
from feature_store.layout import PaymentEvent, device_user, payments_field
from features import ALL_FEATURES, DAY_MS, MerchantFeatures, UserFeatures, milliseconds
from rules.catalogue import CATALOGUE
from serving.feature_client import NOTHING, Found, StreamState
from serving.predictor import GROUPS, features_of
from serving.schemas import PaymentRequest

NOW = datetime(2026, 3, 4, 11, 22, 33, tzinfo=UTC)
WALL = milliseconds(NOW)
HOUR_MS = 3_600_000
CURRENT = Completeness((WALL,) * 10)
BEHIND = Completeness((WALL - 2 * HOUR_MS,) * 10)
NEW = Found(stream=StreamState(data_clock=WALL, complete=CURRENT, pushed_at=WALL - HOUR_MS))
USER = UserFeatures(transactions_30d=3, as_of=NOW).to_json().encode()
MERCHANT = MerchantFeatures("gaming", 2, merchant_transactions_30d=3, as_of=NOW).to_json().encode()


def streamed() -> dict[str, Any]:
    """What Redis has of a user, a merchant and a device that the stream knows."""
    event = PaymentEvent("t0", "u1", "m1", WALL - HOUR_MS, 1000, "DE", "d1", is_international=False)
    return {
        "events": [event.pack()],
        "days": {payments_field(WALL - DAY_MS).encode(): b"5"},
        "device_users": [(device_user(WALL - DAY_MS, "u1"), WALL - DAY_MS)],
    }


def unknown(found: Found, **payment: Any) -> tuple[str, ...]:
    payment = {
        "transaction_id": "new",
        "user_id": "u1",
        "amount": 10.0,
        "merchant_id": "m1",
        "device_id": "d1",
    } | payment
    return features_of(PaymentRequest(**payment), found, NOW).unknown


def without(groups: str) -> tuple[str, ...]:
    return tuple(group for group in GROUPS if group in groups.split())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # Redis did not answer: nothing is known.
        (NOTHING, "user merchant novelty device"),
        # The stream has them.
        (replace(NEW, **streamed()), ""),
        # The stream is current and has none of them: they are new, and their zeros are true.
        (NEW, ""),
        # It is behind, or was never complete: they may have paid meanwhile.
        (replace(NEW, stream=replace(NEW.stream, complete=BEHIND)), "user merchant novelty device"),
        (replace(NEW, stream=StreamState(data_clock=WALL)), "user merchant novelty device"),
        # Snapshots know users and merchants, but not what is new about a payment.
        (Found(user=USER, merchant=MERCHANT, stream=StreamState(pushed_at=WALL)), "novelty device"),
        (replace(NEW, user=USER, merchant=MERCHANT), "novelty"),
        # Of a merchant whose snapshot is too old only the category is known.
        (
            Found(user=USER, merchant=MERCHANT, stream=StreamState(pushed_at=WALL - 49 * HOUR_MS)),
            "merchant novelty device",
        ),
        # What can't be read is unknown.
        (replace(NEW, events=[b"x"]), "user merchant novelty device"),
        (replace(NEW, user=b"{}", stream=StreamState()), "user merchant novelty device"),
    ],
)
def test_groups_that_fell_back_are_unknown(found: Found, expected: str) -> None:
    assert unknown(found) == without(expected)


def test_a_payment_without_a_device_has_no_features_of_a_device() -> None:
    assert unknown(NEW, device_id=None) == unknown(NEW, device_id="") == ("device",)


def test_long_before_the_data_clock_nobody_can_say_who_was_new() -> None:
    """Redis keeps 32 days, and features look 30 days back."""
    assert unknown(NEW, event_time=(NOW - timedelta(days=1)).isoformat()) == ()
    long_ago = (NOW - timedelta(days=40)).isoformat()
    assert unknown(NEW, event_time=long_ago) == GROUPS
    # Of a merchant or a device with few days none has been removed.
    assert unknown(replace(NEW, **streamed()), event_time=long_ago) == ("user", "novelty")


def test_the_groups_are_those_of_the_catalogue() -> None:
    assert {name.group for name in CATALOGUE.values()} == {"payment", "score", *GROUPS}


def test_a_habit_at_a_merchant_is_unknown_with_the_merchant() -> None:
    """None reads both the user and the merchant: it would need two groups."""
    for feature in ALL_FEATURES:
        if feature.source == "habit":
            formula = feature.formula + feature.known_if
            assert not ("user." in formula and "merchant." in formula), feature.name
            assert CATALOGUE[feature.name].group == ("merchant" if "merchant." in formula else "user")

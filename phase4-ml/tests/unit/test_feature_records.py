"""Records for the features: the stream refuses exactly what Bronze refuses, by the same names."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from feature_store.layout import Label, PaymentEvent
from feature_store.records import RuleViolation, to_label, to_payment
from features import EPOCH, milliseconds
from sample_payments import NOON, label, payment

NOW = milliseconds(NOON)


@pytest.mark.parametrize(
    ("rule", "convert", "change"),
    [
        ("transaction_id_missing", to_payment, {"transaction_id": " "}),
        ("user_id_missing", to_payment, {"user_id": None}),
        ("merchant_id_invalid", to_payment, {"merchant_id": "m\0"}),
        ("event_time_invalid", to_payment, {"event_time": datetime.fromisoformat("1999-12-31T23:59:59Z")}),
        ("event_time_in_future", to_payment, {"event_time": NOON + timedelta(minutes=5, milliseconds=1)}),
        ("amount_not_positive", to_payment, {"amount": Decimal("0.00")}),
        ("currency_invalid", to_payment, {"currency": "EURO"}),
        ("is_fraud_missing", to_label, {"is_fraud": None}),
        ("reported_before_event", to_label, {"reported_at": NOON - timedelta(milliseconds=1)}),
        ("reported_in_future", to_label, {"reported_at": NOON + timedelta(minutes=6)}),
    ],
)
def test_a_refusal_has_the_name_of_the_rule(rule: str, convert: Any, change: dict[str, Any]) -> None:
    record = payment(1, event_time=NOON) if convert is to_payment else label()
    with pytest.raises(RuleViolation, match=f"^{rule}$"):
        convert(record | change, NOW)


def test_a_good_payment_at_the_limits_is_taken() -> None:
    latest, earliest = NOON + timedelta(minutes=5), datetime.fromisoformat("2000-01-01T00:00:00Z")
    for event_time in (latest, earliest):
        assert to_payment(payment(1, event_time=event_time), NOW).event_time == milliseconds(event_time)
    largest = to_payment(payment(1, amount=Decimal("9999999999.99"), event_time=NOON), NOW)
    assert largest.cents == 10**12 - 1


def test_what_is_optional_may_be_missing() -> None:
    found = to_payment(payment(1, country=None, device_id=None, is_international=None, event_time=NOON), NOW)
    assert found == PaymentEvent("t000001", "u1", "m1", NOW, 1350, "", "", is_international=False)


def test_a_label_keeps_its_times() -> None:
    found = to_label(label(reported_at=NOON + timedelta(days=3)), NOW + 3 * 86_400_000)
    assert found == Label("t1", "u1", NOW, NOW + 3 * 86_400_000, is_fraud=True)
    assert EPOCH + timedelta(milliseconds=found.event_time) == NOON

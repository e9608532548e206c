"""The online store's byte format: an upgraded program reads what an earlier one wrote."""

import pytest
from feature_store.layout import (
    Label,
    LabelMember,
    PaymentEvent,
    day_of_field,
    frauds_field,
    key_of,
    merchant_number,
    merchant_of,
    payments_field,
    range_of_key,
    range_start,
    unpack_merchant,
    unpack_user,
)
from features import DAY_MS, FraudChange

AT = 1_732_881_600_123
PAYMENT = PaymentEvent("t1", "u1", "m1", AT, 1250, "DE", "d1", is_international=True)
LABEL = Label("t1", "u1", AT, AT + 118_400_333, is_fraud=True)


def test_bytes_are_those_of_every_release() -> None:
    assert PAYMENT.pack().hex() == "326ef959cf66fa2501d9ed00000004e2688fbcea5a7e69c7"
    assert LABEL.pack().hex() == "326ef959cf66fa2500000326fdb2e791"
    assert merchant_number("m1") == 898176242868


def test_members_become_arrays() -> None:
    other = PaymentEvent("t2", "u1", "m2", AT + 1, 10**12 - 1, "FR", "d1", is_international=False)
    events = unpack_user([PAYMENT.pack(), other.pack()], [LABEL.pack()])
    assert events.event_time.tolist() == [AT, AT + 1]
    assert events.cents.tolist() == [1250, 10**12 - 1]
    assert events.is_international.tolist() == [1, 0]
    assert events.merchant.tolist() == [merchant_number("m1"), merchant_number("m2")]
    same_device, other_device = events.device.tolist()
    assert same_device == other_device
    assert len(set(events.country.tolist())) == 2
    assert events.label_payment.tolist() == [PAYMENT.key]
    assert events.label_reported_at.tolist() == [LABEL.reported_at]
    assert events.label_is_fraud.tolist() == [1]
    assert unpack_user([], []).event_time.tolist() == []
    with pytest.raises(ValueError, match="24 bytes"):
        unpack_user([b"short"], [])


def test_a_member_says_its_key_its_merchant_and_its_label() -> None:
    assert key_of(PAYMENT.pack()) == key_of(LABEL.pack()) == PAYMENT.key == LABEL.key
    assert merchant_of(PAYMENT.pack()) == merchant_number("m1")
    assert LabelMember.unpack(LABEL.pack()) == LabelMember(PAYMENT.key, AT, LABEL.reported_at, is_fraud=True)


def test_ranges_contain_the_members_of_a_key_or_of_a_time() -> None:
    begin, end = (bound.removeprefix(b"[") for bound in range_of_key(PAYMENT.key))
    assert begin <= PAYMENT.pack() <= end
    later = PaymentEvent("t1", "u1", "m1", AT + 1, 1250, "DE", "d1", is_international=True)
    assert not begin <= later.pack() <= end
    first = range_start(AT).removeprefix(b"(")
    earlier = PaymentEvent("t1", "u1", "m1", AT - 1, 1250, "DE", "d1", is_international=True)
    assert earlier.pack() < first <= PAYMENT.pack()
    assert range_start(-1) == range_start(0)


def test_a_merchants_hash_has_payments_and_frauds_by_day() -> None:
    day = AT // DAY_MS
    assert payments_field(AT) == str(day)
    # Known from the first midnight after the report; a report at midnight counts at once.
    assert frauds_field(AT, AT + 1) == f"{day}:{day + 1}"
    assert frauds_field(AT, (day + 1) * DAY_MS) == f"{day}:{day + 1}"
    fields = {payments_field(AT).encode(): b"3", frauds_field(AT, AT + 1).encode(): b"-1"}
    assert unpack_merchant(fields) == ({day: 3}, [FraudChange(day, day + 1, -1)])
    assert {day_of_field(name) for name in fields} == {day}

"""The online store's byte format: an upgraded program reads what an earlier one wrote."""

import pytest
from feature_store.freshness import partition_of
from feature_store.layout import (
    KEEP_MS,
    Label,
    LabelMember,
    PaymentEvent,
    amounts_fields,
    covers_days,
    covers_user,
    day_of_field,
    device_number,
    device_of,
    event_time_of,
    first_day_kept,
    frauds_field,
    kept_from,
    key_bytes,
    key_of,
    merchant_number,
    merchant_of,
    parties_of,
    payments_field,
    unpack_merchant,
    unpack_user,
    writes_number,
)
from features import DAY_MS, FraudChange, MerchantDay

AT = 1_732_881_600_123
PAYMENT = PaymentEvent("t1", "u1", "m1", AT, 1250, "DE", "d1", is_international=True)
LABEL = Label("t1", "u1", AT, AT + 118_400_333, is_fraud=True)


def test_bytes_are_those_of_every_release() -> None:
    key, payment, parties = "326ef959cf66fa25", "5bd9ed00000004e2", "688fbcea5a7e69c7"
    assert PAYMENT.pack().hex() == key + payment + parties
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
    assert event_time_of(PAYMENT.pack()) == event_time_of(LABEL.pack()) == AT
    assert merchant_of(PAYMENT.pack()) == merchant_number("m1")
    assert (
        device_of(PAYMENT.pack()) == device_number("d1") and device_number("d1") >> 7 == parties_of("", "", "d1").device
    )
    assert LabelMember.unpack(LABEL.pack()) == LabelMember(PAYMENT.key, AT, LABEL.reported_at, is_fraud=True)


def test_members_of_a_payment_begin_with_its_key() -> None:
    assert PAYMENT.pack().startswith(key_bytes(PAYMENT.key))
    assert LABEL.pack().startswith(key_bytes(PAYMENT.key))
    later = PaymentEvent("t1", "u1", "m1", AT + 1, 1250, "DE", "d1", is_international=True)
    assert not later.pack().startswith(key_bytes(PAYMENT.key))


@pytest.mark.parametrize("partitions", [1, 3, 10, 12, 20])
def test_processes_with_other_partitions_count_other_writes(partitions: int) -> None:
    owners = {(writes_number(user), partition_of(user, partitions)) for user in map(str, range(10_000))}
    assert len(owners) == 60


def test_what_is_kept_goes_by_the_user_and_not_by_the_newest_of_all() -> None:
    year = 365 * DAY_MS
    # A user whose partition is read more slowly, one with a wrong row in the future, and no data clock yet.
    assert kept_from(AT - year, AT) == AT - year - KEEP_MS
    assert kept_from(AT + year, AT) == AT - KEEP_MS
    assert kept_from(AT, 0) < 0
    day = AT // DAY_MS
    assert first_day_kept([day - 365], AT) == day - 365 - 32
    assert first_day_kept([day, day + 365], AT) == day - 32
    # The data clock is wrong, too.
    assert first_day_kept(range(day - 50, day + 1), AT + 365 * DAY_MS) == day - 39


def test_windows_are_complete_up_to_two_days_before_the_newest_payment() -> None:
    for newest in (AT, AT + 90 * DAY_MS):
        assert covers_user(newest, AT, AT + 90 * DAY_MS)
        assert covers_user(newest, AT, AT - 2 * DAY_MS)
        assert not covers_user(newest, AT, AT - 2 * DAY_MS - 1)
    # Of a user that is behind, everything is kept that the user's own payments need.
    assert covers_user(AT - 90 * DAY_MS, AT, AT - 92 * DAY_MS)
    day = AT // DAY_MS
    assert covers_days([], AT, day - 90)
    days = [*range(day - 50, day + 1), day + 90]
    assert covers_days(days, AT, day - 2) and not covers_days(days, AT, day - 20)
    assert covers_days(days, AT + 90 * DAY_MS, day)
    assert covers_days(days[20:], AT + 90 * DAY_MS, day - 20)


def test_a_merchants_hash_has_payments_and_frauds_by_day() -> None:
    day = AT // DAY_MS
    assert payments_field(AT) == str(day)
    # Known from the first midnight after the report; a report at midnight counts at once.
    assert frauds_field(AT, AT + 1) == f"{day}:{day + 1}"
    assert frauds_field(AT, (day + 1) * DAY_MS) == f"{day}:{day + 1}"
    fields = {payments_field(AT).encode(): b"3", frauds_field(AT, AT + 1).encode(): b"-1"}
    assert unpack_merchant(fields) == ({day: MerchantDay(3)}, [FraudChange(day, day + 1, -1)])
    fields |= {name.encode(): b"5" for name in amounts_fields(AT)}
    assert unpack_merchant(fields) == ({day: MerchantDay(3, 5, 5)}, [FraudChange(day, day + 1, -1)])
    assert {day_of_field(name) for name in fields} == {day}

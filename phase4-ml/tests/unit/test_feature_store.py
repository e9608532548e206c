"""The parts of the feature store that need no Redis: merchants' totals, the newest users, named results, settings."""

import dataclasses

import pytest
from feature_store import coverage
from feature_store.layout import (
    DEVICE_FRAUDS,
    DEVICE_USERS,
    MERCHANT_DAYS,
    Label,
    PaymentEvent,
    amounts_fields,
    device_number,
    frauds_field,
    merchant_number,
    payments_field,
    unpack_device,
)
from feature_store.pipelines import NamedPipeline, load_script
from feature_store.reconcile import ReconciliationSettings
from feature_store.totals import count_frauds, count_payments, first_payments, old_fields
from feature_stream.settings import StreamSettings
from features import DAY_MS, FraudChange, log_steps
from fraud_common.errors import UserError
from fraud_common.settings import load_settings

AT = 20_000 * DAY_MS
PAYMENT = PaymentEvent("t1", "u1", "m1", AT, 100, "DE", "d1", is_international=False)
FRAUD = Label("t1", "u1", AT, AT + DAY_MS // 2, is_fraud=True)
CLEARED = Label("t1", "u1", AT, AT + 3 * DAY_MS, is_fraud=False)
M1, D1 = MERCHANT_DAYS.format(merchant_number("m1")), DEVICE_FRAUDS.format(device_number("d1"))
KNOWN = {(hash_key, frauds_field(AT, FRAUD.reported_at)): 1 for hash_key in (M1, D1)}
CHANGED = KNOWN | {(hash_key, frauds_field(AT, CLEARED.reported_at)): -1 for hash_key in (M1, D1)}


def test_payments_count_for_their_merchants_days() -> None:
    other = PaymentEvent("t2", "u2", "m1", AT + 1, 100, "DE", "d1", is_international=False)
    sums, squares = amounts_fields(AT)
    one = log_steps(1.0)
    expected = {(M1, payments_field(AT)): 2, (M1, sums): 2 * one, (M1, squares): 2 * one * one}
    assert count_payments([PAYMENT, other]) == expected


def test_devices_have_the_first_payment_of_each_user_and_day() -> None:
    def at(event_time: int, user: str = "u1", device: str = "d1") -> PaymentEvent:
        return PaymentEvent(f"{user}-{event_time}", user, "m1", event_time, 100, "DE", device, is_international=False)

    found = first_payments([at(AT + 5), at(AT + 2), at(AT + 9), at(AT + 3, "u2"), at(AT + DAY_MS), at(AT, device="")])
    assert sorted(found.values()) == [AT + 2, AT + 3, AT + DAY_MS]
    assert {key for key, _ in found} == {DEVICE_USERS.format(device_number("d1"))}
    users, frauds = unpack_device([(member, first) for (_, member), first in found.items()], {b"1:2": b"3"})
    assert len({user.user for user in users}) == 2 and frauds == [FraudChange(1, 2, 3)]


def test_frauds_without_a_device_count_for_the_merchant_only() -> None:
    payment = dataclasses.replace(PAYMENT, device_id="")
    assert {key for key, _ in count_frauds({payment.key: payment}, [FRAUD.pack()], [], {})} == {M1}
    known = {payment.key: payment.pack()}
    assert {key for key, _ in count_frauds({}, [FRAUD.pack()], [], known)} == {M1}


def test_frauds_are_the_same_in_whatever_order_payment_and_labels_arrive() -> None:
    payment, fraud, cleared = PAYMENT.pack(), FRAUD.pack(), CLEARED.pack()
    key, new, nothing = PAYMENT.key, {PAYMENT.key: PAYMENT}, {}
    together = count_frauds(new, [cleared, fraud], known_labels=[], known_payments={})
    assert together == CHANGED
    # A label without its payment changes nothing; then the payment arrives.
    assert count_frauds(nothing, [fraud], known_labels=[], known_payments={}) == {}
    first = count_frauds(new, [], known_labels=[fraud], known_payments={})
    assert first == KNOWN
    second = count_frauds(nothing, [cleared], known_labels=[fraud], known_payments={key: payment})
    first.update(second)
    assert first == together
    # The later label first: it clears nothing yet.
    first = count_frauds(new, [cleared], known_labels=[], known_payments={})
    first.update(count_frauds(nothing, [fraud], known_labels=[cleared], known_payments={key: payment}))
    assert first == together


def fields_of(*days: int) -> list[bytes]:
    """A merchant's fields: payments of these days, and frauds of each that were known a week later."""
    return [name for day in days for name in (b"%d" % day, b"%ds" % day, b"%d:%d" % (day, day + 7))]


def test_a_merchant_forgets_days_that_no_window_reaches() -> None:
    days = range(20_000 - 60, 20_001)
    assert old_fields(fields_of(*days), AT) == fields_of(*days[: -32 - 1])[: 3 * (60 - 40 + 1)]
    # A merchant without recent payments keeps the days before its last one.
    assert old_fields(fields_of(*days), AT + 400 * DAY_MS) == old_fields(fields_of(*days), AT)
    assert old_fields([], AT) == []


def test_a_merchants_days_survive_wrong_dates() -> None:
    """B1: a payment of today in data of 90 days ago, and so many of them that the data clock is today as well."""
    days, today = range(20_000 - 32, 20_001), 20_090
    for clock in (AT, AT + 90 * DAY_MS):
        assert old_fields(fields_of(*days, today), clock) == []
        assert old_fields(fields_of(19_000, *days, today, today + 1), clock) in ([], fields_of(19_000))


def test_the_newest_users_of_batches_are_those_of_all() -> None:
    def at(user: str, event_time: int) -> PaymentEvent:
        return PaymentEvent(f"{user}-{event_time}", user, "m1", event_time, 1, "DE", "d1", is_international=False)

    first = coverage.newest_users([at("a", 10), at("b", 9), at("c", 8), at("d", 7), at("a", 5)])
    assert first == {"a": 10, "b": 9, "c": 8}
    assert coverage.newest_users([at("d", 20), at("a", 15), at("e", 19)], first) == {"d": 20, "e": 19, "a": 15}
    assert coverage.newest_users([at("a", 1)]) == {"a": 1}
    assert coverage.newest_users([]) == {}


class Commands(list[str]):
    """The part of a pipeline that NamedPipeline uses."""

    def get(self, key: str) -> None:
        self.append(key)

    def execute(self) -> list[str]:
        return [f"value of {key}" for key in self]


def test_results_have_the_names_of_their_commands() -> None:
    pipeline = NamedPipeline(Commands())
    pipeline.named("clock").get("a")
    pipeline.pipeline.get("not needed")
    pipeline.named("labels", "u1").get("b")
    assert pipeline.execute() == {"clock": "value of a", ("labels", "u1"): "value of b"}


def test_the_scripts_are_in_the_package() -> None:
    assert "ZREMRANGEBYRANK" in load_script("add_records")
    assert "HSET" in load_script("advance")


def test_stream_and_repair_keep_the_same_number_of_payments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_STREAM_MAX_PAYMENTS_PER_USER", "5000")
    for kind in (StreamSettings, ReconciliationSettings):
        assert load_settings(kind).feature_stream_max_payments_per_user == 5000
    monkeypatch.setenv("FEATURE_STREAM_MAX_PAYMENTS_PER_USER", "9")
    with pytest.raises(UserError, match="FEATURE_STREAM_MAX_PAYMENTS_PER_USER=9"):
        load_settings(StreamSettings)

"""The parts of the feature store that need no Redis: merchants' totals, the newest users, named results, settings."""

import pytest
from feature_store import coverage
from feature_store.layout import Label, PaymentEvent, frauds_field, merchant_number, payments_field
from feature_store.merchant_totals import count_frauds, count_payments, old_fields
from feature_store.pipelines import NamedPipeline, load_script
from feature_store.reconcile import ReconciliationSettings
from feature_stream.settings import StreamSettings
from features import DAY_MS
from fraud_common.errors import UserError
from fraud_common.settings import load_settings

AT = 20_000 * DAY_MS
PAYMENT = PaymentEvent("t1", "u1", "m1", AT, 100, "DE", "d1", is_international=False)
FRAUD = Label("t1", "u1", AT, AT + DAY_MS // 2, is_fraud=True)
CLEARED = Label("t1", "u1", AT, AT + 3 * DAY_MS, is_fraud=False)
M1 = merchant_number("m1")
KNOWN = (M1, frauds_field(AT, FRAUD.reported_at))
UNKNOWN = (M1, frauds_field(AT, CLEARED.reported_at))


def test_payments_count_for_their_merchants_days() -> None:
    other = PaymentEvent("t2", "u2", "m1", AT + 1, 100, "DE", "d1", is_international=False)
    assert count_payments([PAYMENT, other]) == {(M1, payments_field(AT)): 2}


def test_frauds_are_the_same_in_whatever_order_payment_and_labels_arrive() -> None:
    payment, fraud, cleared = PAYMENT.pack(), FRAUD.pack(), CLEARED.pack()
    key, new, nothing = PAYMENT.key, {PAYMENT.key: PAYMENT}, {}
    together = count_frauds(new, [cleared, fraud], known_labels=[], known_payments={})
    assert together == {KNOWN: 1, UNKNOWN: -1}
    # A label without its payment changes nothing; then the payment arrives.
    assert count_frauds(nothing, [fraud], known_labels=[], known_payments={}) == {}
    first = count_frauds(new, [], known_labels=[fraud], known_payments={})
    assert first == {KNOWN: 1}
    second = count_frauds(nothing, [cleared], known_labels=[fraud], known_payments={key: payment})
    first.update(second)
    assert first == together
    # The later label first: it clears nothing yet.
    first = count_frauds(new, [cleared], known_labels=[], known_payments={})
    first.update(count_frauds(nothing, [fraud], known_labels=[cleared], known_payments={key: payment}))
    assert first == together


def fields_of(*days: int) -> list[bytes]:
    """A merchant's fields: payments of these days, and frauds of each that were known a week later."""
    return [name for day in days for name in (b"%d" % day, b"%d:%d" % (day, day + 7))]


def test_a_merchant_forgets_days_that_no_window_reaches() -> None:
    days = range(20_000 - 60, 20_001)
    assert old_fields(fields_of(*days), AT) == fields_of(*days[: -32 - 1])[: 2 * (60 - 40 + 1)]
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

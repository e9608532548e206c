"""One definition of a valid payment: what Bronze takes, the scorer, the API and the feature stream take, no more."""

from collections.abc import Callable
from typing import Any

from feature_store.records import RuleViolation, to_label, to_payment
from features import milliseconds
from fraud_common.payments import label_violations, payment_violations
from hypothesis import given, settings
from payment_strategies import ARRIVED, labels, payments
from pydantic import ValidationError
from scorer.records import InvalidPayment, to_request
from serving.schemas import PaymentRequest


def accepts(check: Callable[[], object], refusal: type[Exception]) -> bool:
    """Whether a check passes."""
    try:
        check()
    except refusal:
        return False
    return True


@settings(max_examples=2_000, deadline=None)
@given(payments)
def test_payments(record: dict[str, Any]) -> None:
    valid = not payment_violations(record, ARRIVED)
    assert accepts(lambda: to_payment(record, milliseconds(ARRIVED)), RuleViolation) == valid
    assert accepts(lambda: to_request(record, ARRIVED), InvalidPayment) == valid
    if valid:
        PaymentRequest.model_validate(to_request(record, ARRIVED))


@settings(max_examples=2_000, deadline=None)
@given(payments)
def test_the_api_refuses_what_bronze_refuses(record: dict[str, Any]) -> None:
    """Its clock is a little later than ARRIVED, and it needs no currency."""
    violations = set(payment_violations(record, ARRIVED)) - {"event_time_in_future"}
    if record["currency"] is None:
        violations.discard("currency_invalid")
    if record["event_time"] is None:
        violations.discard("event_time_invalid")
    request = {
        name: record[name]
        for name in ("transaction_id", "user_id", "merchant_id", "currency", "country", "device_id")
        if record[name] is not None
    }
    if record["amount"] is not None:
        request["amount"] = float(record["amount"])
    if record["event_time"] is not None and record["event_time"] <= ARRIVED:
        request["event_time"] = record["event_time"].isoformat()
    assert accepts(lambda: PaymentRequest.model_validate(request), ValidationError) == (not violations)


@settings(max_examples=2_000, deadline=None)
@given(labels)
def test_labels(record: dict[str, Any]) -> None:
    valid = not label_violations(record, ARRIVED)
    assert accepts(lambda: to_label(record, milliseconds(ARRIVED)), RuleViolation) == valid

"""From a decoded record to an event of the online store, for records that Bronze takes; no feature counts others."""

from datetime import UTC, datetime
from typing import Any

from features import milliseconds
from fraud_common.payments import label_violations, payment_violations

from feature_store.layout import Label, PaymentEvent


class RuleViolation(ValueError):  # noqa: N818 - the name of a rule, for the metric
    """Bronze does not take the record; the message is the name of the first rule that it violates."""


def to_payment(record: Any, kafka_timestamp: int) -> PaymentEvent:
    """A payment for the features.

    Args:
        record: of schema Transaction; anything else violates the rules.
        kafka_timestamp: when Kafka received it, in milliseconds.

    Raises:
        RuleViolation: Bronze does not take it.
    """
    _check(payment_violations(record, _moment(kafka_timestamp)))
    return PaymentEvent(
        transaction_id=record["transaction_id"],
        user_id=record["user_id"],
        merchant_id=record["merchant_id"],
        event_time=milliseconds(record["event_time"]),
        cents=int(record["amount"].scaleb(2)),
        country=record.get("country") or "",
        device_id=record.get("device_id") or "",
        is_international=bool(record.get("is_international")),
    )


def to_label(record: Any, kafka_timestamp: int) -> Label:
    """A label for the features; arguments and errors as above."""
    _check(label_violations(record, _moment(kafka_timestamp)))
    return Label(
        transaction_id=record["transaction_id"],
        user_id=record["user_id"],
        event_time=milliseconds(record["event_time"]),
        reported_at=milliseconds(record["reported_at"]),
        is_fraud=record["is_fraud"],
    )


def _moment(kafka_timestamp: int) -> datetime:
    return datetime.fromtimestamp(kafka_timestamp / 1000, UTC)


def _check(violations: list[str]) -> None:
    for rule in violations:
        raise RuleViolation(rule)

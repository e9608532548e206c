"""From a decoded record to an event of the online store, for records that Bronze takes; no feature counts the others.

The rules are those of Bronze, under its names: what it refuses is in no training example, so it must not count here.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from features import milliseconds
from fraud_common.payments import CLOCK_SKEW, EARLIEST_EVENT_TIME, MAX_AMOUNT_CENTS

from feature_store.layout import Label, PaymentEvent

_CLOCK_SKEW_MS = round(CLOCK_SKEW.total_seconds() * 1000)
_EARLIEST_MS = milliseconds(EARLIEST_EVENT_TIME)


class RuleViolation(ValueError):  # noqa: N818 - the name of a rule, for the metric
    """Bronze does not take the record; the message is the name of the rule."""


def to_payment(record: Mapping[str, Any], kafka_timestamp: int) -> PaymentEvent:
    """A payment for the features.

    Args:
        record: of schema Transaction.
        kafka_timestamp: when Kafka received it, in milliseconds.

    Raises:
        RuleViolation: Bronze does not take it.
    """
    event_time = _check_identity(record, kafka_timestamp)
    amount = record.get("amount")
    cents = int(amount.scaleb(2)) if amount is not None else 0
    if not 0 < cents <= MAX_AMOUNT_CENTS:
        raise RuleViolation("amount_not_positive")
    if _blank(record.get("merchant_id")):
        raise RuleViolation("merchant_id_missing")
    currency = record.get("currency") or ""
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()):
        raise RuleViolation("currency_invalid")
    return PaymentEvent(
        transaction_id=record["transaction_id"],
        user_id=record["user_id"],
        merchant_id=record["merchant_id"],
        event_time=event_time,
        cents=cents,
        country=record.get("country") or "",
        device_id=record.get("device_id") or "",
        is_international=bool(record.get("is_international")),
    )


def to_label(record: Mapping[str, Any], kafka_timestamp: int) -> Label:
    """A label for the features; arguments and errors as above."""
    event_time = _check_identity(record, kafka_timestamp)
    is_fraud, reported_at = record.get("is_fraud"), record.get("reported_at")
    if is_fraud is None:
        raise RuleViolation("is_fraud_missing")
    if not isinstance(reported_at, datetime) or milliseconds(reported_at) < event_time:
        raise RuleViolation("reported_before_event")
    return Label(record["transaction_id"], record["user_id"], event_time, milliseconds(reported_at), is_fraud)


def _check_identity(record: Mapping[str, Any], kafka_timestamp: int) -> int:
    """The event time in milliseconds of a record that has its ids and a possible time."""
    for name in ("transaction_id", "user_id"):
        if _blank(record.get(name)):
            raise RuleViolation(f"{name}_missing")
    event_time = record.get("event_time")
    if not isinstance(event_time, datetime):
        raise RuleViolation("event_time_invalid")
    moment = milliseconds(event_time)
    if moment < _EARLIEST_MS:
        raise RuleViolation("event_time_invalid")
    if moment > kafka_timestamp + _CLOCK_SKEW_MS:
        raise RuleViolation("event_time_in_future")
    return moment


def _blank(name: Any) -> bool:
    return not isinstance(name, str) or not name.strip(" ")

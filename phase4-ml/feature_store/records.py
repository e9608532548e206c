"""From a decoded record to what the online store keeps, for records that Bronze takes; others are no part of a feature.

The rules are those of Bronze, by its names: what it refuses is in no training example, so it must not count here.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from features import milliseconds

from feature_store.event_store import PaymentEvent, Verdict

# As in the Bronze writer: clocks differ, and the year 2000 is before any payment.
CLOCK_SKEW_MS = 5 * 60_000
EARLIEST_MS = 946_684_800_000
MAX_CENTS = 10**12 - 1


class BrokenRule(ValueError):  # noqa: N818 - the name of a rule, for the metric
    """The record breaks a rule of Bronze; the message is the rule's name."""


def to_payment(record: Mapping[str, Any], kafka_timestamp: int) -> PaymentEvent:
    """A payment for the features.

    Args:
        record: of schema Transaction.
        kafka_timestamp: when Kafka got it, in milliseconds.

    Raises:
        BrokenRule: Bronze does not take it.
    """
    event_time = _identified(record, kafka_timestamp)
    amount = record.get("amount")
    cents = int(amount.scaleb(2)) if amount is not None else 0
    if not 0 < cents <= MAX_CENTS:
        raise BrokenRule("amount_not_positive")
    if _blank(record.get("merchant_id")):
        raise BrokenRule("merchant_id_missing")
    currency = record.get("currency") or ""
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()):
        raise BrokenRule("currency_invalid")
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


def to_verdict(record: Mapping[str, Any], kafka_timestamp: int) -> Verdict:
    """A label for the features; arguments and errors as above."""
    event_time = _identified(record, kafka_timestamp)
    is_fraud, reported_at = record.get("is_fraud"), record.get("reported_at")
    if is_fraud is None:
        raise BrokenRule("is_fraud_missing")
    if not isinstance(reported_at, datetime) or milliseconds(reported_at) < event_time:
        raise BrokenRule("reported_before_event")
    return Verdict(record["transaction_id"], record["user_id"], event_time, milliseconds(reported_at), is_fraud)


def _identified(record: Mapping[str, Any], kafka_timestamp: int) -> int:
    """The event time in milliseconds of a record that says whose and when it is."""
    for name in ("transaction_id", "user_id"):
        if _blank(record.get(name)):
            raise BrokenRule(f"{name}_missing")
    event_time = record.get("event_time")
    if not isinstance(event_time, datetime):
        raise BrokenRule("event_time_invalid")
    moment = milliseconds(event_time)
    if moment < EARLIEST_MS:
        raise BrokenRule("event_time_invalid")
    if moment > kafka_timestamp + CLOCK_SKEW_MS:
        raise BrokenRule("event_time_in_future")
    return moment


def _blank(name: Any) -> bool:
    return not isinstance(name, str) or not name.strip(" ")

"""What a payment looks like on its way: the request to the API, the record of its score, and its dead letter."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message

from fraud_common.avro import SerializationError

Headers = list[tuple[str, str | bytes | None]]

REQUIRED = ("transaction_id", "user_id", "amount", "merchant_id", "is_international", "event_time")
OPTIONAL = ("currency", "country", "device_id", "device_type")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message can't be scored: names for the machine, a sentence for a person."""

    reasons: list[str]
    error: str


def to_request(transaction: Any) -> dict[str, Any]:
    """The API's request for a decoded payment.

    Raises:
        SerializationError: the record is no payment.
    """
    try:
        request = {name: transaction[name] for name in REQUIRED}
        request["amount"] = float(request["amount"])
        request["event_time"] = request["event_time"].astimezone(UTC).isoformat()
    except KeyError as error:
        raise SerializationError(f"no payment: it has no {error.args[0]}") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SerializationError(f"no payment: {error}") from None
    return request | {name: transaction[name] for name in OPTIONAL if transaction.get(name) is not None}


def to_score(request: Mapping[str, Any], answer: Mapping[str, Any], scored_at: datetime) -> dict[str, Any]:
    """The record of a score, ScoredTransaction."""
    return {
        "transaction_id": request["transaction_id"],
        "user_id": request["user_id"],
        "merchant_id": request["merchant_id"],
        "fraud_probability": answer["fraud_probability"],
        "risk_tier": answer["risk_tier"],
        "model_version": answer["model_version"],
        "feature_source": answer["feature_source"],
        "scored_at": scored_at,
    }


def dead_letter_headers(message: Message, refusal: Refusal) -> Headers:
    """The headers of a dead letter, the same as those of the producer and of the Bronze writer."""
    headers = {
        "dlq.stage": "scorer",
        "dlq.reasons": ",".join(refusal.reasons),
        "dlq.error": refusal.error[:1000],
        "dlq.topic": message.topic(),
        "dlq.partition": str(message.partition()),
        "dlq.offset": str(message.offset()),
        "dlq.failed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "dlq.attempts": str(_attempts(message) + 1),
    }
    return [(name, (value or "").encode()) for name, value in headers.items()]


def _attempts(message: Message) -> int:
    """How often it has failed before: one that was sent back from the dead letters carries that along."""
    value = dict(message.headers() or []).get("dlq.attempts") or b"0"
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return int(text) if text.isdecimal() else 0

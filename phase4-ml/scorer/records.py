"""A payment on its way through the scorer: the request to the API, the record of its score, and its dead letter."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message
from fraud_common.dead_letters import Headers, dead_letter_headers, earlier_attempts, headers_of
from fraud_common.payments import payment_violations

OPTIONAL = ("currency", "merchant_category", "country", "device_id", "device_type")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message can't be scored: names for machines, a sentence for people."""

    reasons: list[str]
    error: str


class InvalidPayment(ValueError):  # noqa: N818 - a state of the message
    """The payment violates rules; `violations` has their names."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__(", ".join(violations))
        self.violations = violations


def to_request(transaction: Any, arrived: datetime) -> dict[str, Any]:
    """The API's request for a decoded payment that arrived in Kafka at that time.

    Raises:
        InvalidPayment: Bronze refuses it, too.
    """
    violations = payment_violations(transaction, arrived)
    if violations:
        raise InvalidPayment(violations)
    request = {
        "transaction_id": transaction["transaction_id"],
        "user_id": transaction["user_id"],
        "amount": float(transaction["amount"]),
        "merchant_id": transaction["merchant_id"],
        "is_international": bool(transaction.get("is_international")),
        "event_time": transaction["event_time"].astimezone(UTC).isoformat(),
    }
    return request | {name: value for name in OPTIONAL if (value := transaction.get(name)) is not None}


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
        # An API of the release before does not have them yet while both are replaced; the defaults are the schema's.
        "decision": answer.get("decision"),
        "queue": answer.get("queue", False),
        "rules": answer.get("rules", []),
        "ruleset_id": answer.get("ruleset_id"),
    }


def headers_of_dead_letter(message: Message, refusal: Refusal) -> Headers:
    """The headers of a message that can't be scored."""
    return dead_letter_headers(
        stage="scorer",
        reasons=refusal.reasons,
        error=refusal.error,
        topic=message.topic() or "",
        partition=message.partition(),
        offset=message.offset(),
        attempts=earlier_attempts(message) + 1,
        original=headers_of(message),
    )

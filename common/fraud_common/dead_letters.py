"""Dead letters: what a message in transactions.dlq looks like, and how all of them are read.

Key and value are the original bytes, untouched; the context is in headers. So sending one back is a copy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, Message

from fraud_common.kafka import read_topic

Headers = list[tuple[str, str | bytes | None]]

# The names of the headers.
STAGE, REASONS, ERROR = "dlq.stage", "dlq.reasons", "dlq.error"
TOPIC, PARTITION, OFFSET = "dlq.topic", "dlq.partition", "dlq.offset"
FAILED_AT, ATTEMPTS = "dlq.failed_at", "dlq.attempts"
_MAX_ERROR_CHARACTERS = 1000


def dead_letter_headers(
    *,
    stage: str,
    reasons: Sequence[str],
    error: str,
    topic: str,
    partition: int | None = None,
    offset: int | None = None,
    attempts: int = 1,
) -> Headers:
    """The headers of a dead letter.

    Args:
        stage: where it failed: producer, bronze or scorer.
        reasons: the names of all rules that it broke, or the class of the error.
        error: a sentence for a person.
        topic: where the message was, or was to go.
        partition, offset: its coordinates there, if it had them.
        attempts: how many times it has failed so far, this one included.
    """
    headers = {
        STAGE: stage,
        REASONS: ",".join(reasons),
        ERROR: error[:_MAX_ERROR_CHARACTERS],
        TOPIC: topic,
        PARTITION: "" if partition is None else str(partition),
        OFFSET: "" if offset is None else str(offset),
        FAILED_AT: datetime.now(UTC).isoformat(timespec="milliseconds"),
        ATTEMPTS: str(attempts),
    }
    return [(name, value.encode()) for name, value in headers.items()]


def earlier_attempts(message: Message) -> int:
    """How many times a message had failed before: one that was sent back from the dead letters says so."""
    return _number(text_headers(message).get(ATTEMPTS, "0"), default=0)


def text_headers(message: Message) -> dict[str, str]:
    """The headers of a message as text."""
    return {name: _text(value) for name, value in dict(message.headers() or []).items()}


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead letter topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def coordinates(self) -> str:
        """Partition and offset in the dead letter topic, as a person types them: 2-117."""
        return f"{self.partition}-{self.offset}"

    @property
    def stage(self) -> str:
        """Where it failed."""
        return self.headers.get(STAGE, "unknown")

    @property
    def reasons(self) -> list[str]:
        """Why it failed."""
        return [reason for reason in self.headers.get(REASONS, "").split(",") if reason] or ["unknown"]

    @property
    def topic(self) -> str:
        """Where it was, or was to go."""
        return self.headers.get(TOPIC, "")

    @property
    def source(self) -> str:
        """The message that it was, as topic-partition-offset; its own coordinates if that never reached Kafka."""
        partition, offset = self.headers.get(PARTITION, ""), self.headers.get(OFFSET, "")
        return f"{self.topic}-{partition}-{offset}" if partition and offset else self.coordinates

    @property
    def attempts(self) -> int:
        """How many times it has failed."""
        return _number(self.headers.get(ATTEMPTS, "1"), default=1)

    @property
    def is_json(self) -> bool:
        """Whether it never became Avro: the producer then keeps the record as JSON text."""
        return self.stage == "producer" and (self.value or b"").startswith(b"{")


def read_dead_letters(consumer: Consumer, topic: str) -> Iterator[DeadLetter]:
    """Every dead letter that is in the topic now."""
    for message in read_topic(consumer, topic):
        yield DeadLetter(
            message.partition() or 0, message.offset() or 0, message.key(), message.value(), text_headers(message)
        )


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default

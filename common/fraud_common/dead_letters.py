"""Dead letters: what a message in transactions.dlq looks like, and how all of them are read.

Key and value are the original bytes, untouched, and so are the headers that the message had; the context is in headers
of our own. So sending one back is a copy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from fraud_common.errors import UserError
from fraud_common.topics import DEAD_LETTERS

Headers = list[tuple[str, str | bytes | None]]

# The names of our headers.
PREFIX = "dlq."
STAGE, REASONS, ERROR = "dlq.stage", "dlq.reasons", "dlq.error"
TOPIC, PARTITION, OFFSET = "dlq.topic", "dlq.partition", "dlq.offset"
FAILED_AT, ATTEMPTS = "dlq.failed_at", "dlq.attempts"
_MAX_ERROR_CHARACTERS = 1000
# Above any that Kafka has.
_PARTITION_LIMIT, _OFFSET_LIMIT = 2**31, 2**63


class Position(NamedTuple):
    """Where a message is in Kafka."""

    topic: str
    partition: int
    offset: int


def dead_letter_headers(
    *,
    stage: str,
    reasons: Sequence[str],
    error: str,
    topic: str,
    partition: int | None = None,
    offset: int | None = None,
    attempts: int = 1,
    original: Headers | None = None,
) -> Headers:
    """The headers of a dead letter.

    Args:
        stage: where it failed: producer, bronze or scorer.
        reasons: the names of all rules that it broke, or the class of the error.
        error: a sentence for a person.
        topic: where the message was, or was to go.
        partition, offset: its coordinates there, if it had them.
        attempts: how many times it has failed so far, this one included.
        original: the headers of the message itself, which travel with it.
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
    return [*foreign_headers(original), *((name, value.encode()) for name, value in headers.items())]


def foreign_headers(headers: Headers | None) -> Headers:
    """The headers that are not ours."""
    return [(name, value) for name, value in headers or [] if not name.startswith(PREFIX)]


def earlier_attempts(message: Message) -> int:
    """How many times a message had failed before: one that was sent back from the dead letters says so."""
    return _number(text_headers(message).get(ATTEMPTS, "0"), default=0)


def text_headers(message: Message) -> dict[str, str]:
    """The headers of a message as text."""
    return {name: _text(value) for name, value in headers_of(message)}


def headers_of(message: Message) -> Headers:
    """The headers of a message, in their order."""
    headers = message.headers() or []
    return list(headers.items() if isinstance(headers, dict) else headers)


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead letter topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    original_headers: Headers = field(default_factory=list)  # those that the message had before it failed
    written_ms: int = 0  # when it came into the topic, since 1970

    @property
    def coordinates(self) -> str:
        """Partition and offset in the dead letter topic, as a person types them: 2-117."""
        return f"{self.partition}-{self.offset}"

    @property
    def position(self) -> Position:
        """Where it is."""
        return Position(DEAD_LETTERS, self.partition, self.offset)

    @property
    def stage(self) -> str:
        """Where it failed."""
        return self.headers.get(STAGE) or "unknown"

    @property
    def reasons(self) -> list[str]:
        """Why it failed."""
        return [reason for reason in self.headers.get(REASONS, "").split(",") if reason] or ["unknown"]

    @property
    def topic(self) -> str:
        """Where it was, or was to go."""
        return self.headers.get(TOPIC, "")

    @property
    def source(self) -> Position:
        """Where the message was; its own position if it never reached Kafka."""
        partition = _number(self.headers.get(PARTITION, ""), default=-1)
        offset = _number(self.headers.get(OFFSET, ""), default=-1)
        if 0 <= partition < _PARTITION_LIMIT and 0 <= offset < _OFFSET_LIMIT:
            return Position(self.topic, partition, offset)
        return self.position

    @property
    def attempts(self) -> int:
        """How many times it has failed."""
        return _number(self.headers.get(ATTEMPTS, ""), default=1)

    @property
    def failed_at(self) -> str:
        """When it failed, ISO 8601."""
        return self.headers.get(FAILED_AT, "")

    @property
    def is_json(self) -> bool:
        """Whether it never became Avro: the producer then keeps the record as JSON text."""
        return self.stage == "producer" and (self.value or b"").startswith(b"{")


def read_dead_letters(consumer: Consumer, ranges: Mapping[int, tuple[int, int]]) -> Iterator[DeadLetter]:
    """The dead letters of some offsets, one at a time, partition by partition as they come.

    Args:
        consumer: one without a group's partitions.
        ranges: by partition, the first offset and the one after the last.

    Raises:
        UserError: the broker refuses to give them.
    """
    ends = {partition: end for partition, (start, end) in ranges.items() if start < end}
    consumer.assign([TopicPartition(DEAD_LETTERS, partition, ranges[partition][0]) for partition in ends])
    while ends:
        message = consumer.poll(1.0)
        if message is None:
            continue
        partition, error = message.partition() or 0, message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise UserError(f"{DEAD_LETTERS}: {error.str()}; look at: docker compose logs kafka")
            # The last offsets of a range may be gone: a topic can be emptied while it is read.
            ends.pop(partition, None)
            continue
        end, offset = ends.get(partition, 0), message.offset() or 0
        if offset < end:
            yield dead_letter_of(message)
        if offset >= end - 1 and ends.pop(partition, None) is not None:
            consumer.pause([TopicPartition(DEAD_LETTERS, partition)])
    consumer.unassign()


def dead_letter_of(message: Message) -> DeadLetter:
    """A message of the dead letter topic."""
    headers = headers_of(message)
    return DeadLetter(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        headers={name: _text(value) for name, value in headers if name.startswith(PREFIX)},
        original_headers=foreign_headers(headers),
        written_ms=message.timestamp()[1],
    )


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _number(text: str, default: int) -> int:
    # Numbers of ours are short; int() refuses some long ones.
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else default

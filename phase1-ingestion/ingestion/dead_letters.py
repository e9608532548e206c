"""Dead letters: what a message in transactions.dlq looks like, and how all of them are read.

Key and value are the original bytes, untouched; everything else is in headers. So sending one back is a copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from ingestion.errors import SerializationError
from ingestion.registry import Registry
from ingestion.wire import decode, load_schema_text, schema_id_of

Headers = list[tuple[str, str | bytes | None]]


def dead_letter_headers(
    *,
    stage: str,
    reasons: list[str],
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
        partition, offset: its coordinates there, once it had them.
        attempts: how many times it has failed so far, this one included.
    """
    headers = {
        "dlq.stage": stage,
        "dlq.reasons": ",".join(reasons),
        "dlq.error": error[:1000],
        "dlq.topic": topic,
        "dlq.partition": "" if partition is None else str(partition),
        "dlq.offset": "" if offset is None else str(offset),
        "dlq.failed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "dlq.attempts": str(attempts),
    }
    return [(name, value.encode()) for name, value in headers.items()]


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead letter topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]

    @property
    def place(self) -> str:
        """Partition and offset in the dead letter topic, as a person types them: 2-117."""
        return f"{self.partition}-{self.offset}"

    @property
    def stage(self) -> str:
        """Where it failed."""
        return self.headers.get("dlq.stage", "unknown")

    @property
    def reasons(self) -> list[str]:
        """Why it failed."""
        return [reason for reason in self.headers.get("dlq.reasons", "").split(",") if reason] or ["unknown"]

    @property
    def topic(self) -> str:
        """Where it was, or was to go."""
        return self.headers.get("dlq.topic", "")

    @property
    def source(self) -> str:
        """The message that it was, as topic-partition-offset; its own place where that never reached Kafka."""
        partition, offset = self.headers.get("dlq.partition", ""), self.headers.get("dlq.offset", "")
        return f"{self.topic}-{partition}-{offset}" if partition and offset else self.place

    @property
    def attempts(self) -> int:
        """How many times it has failed."""
        text = self.headers.get("dlq.attempts", "1")
        return int(text) if text.isdecimal() else 1

    @property
    def is_json(self) -> bool:
        """Whether it never became Avro: the producer then keeps the record as JSON text."""
        return self.stage == "producer" and (self.value or b"").startswith(b"{")


def read_topic(consumer: Consumer, topic: str) -> Iterator[Message]:
    """Every message that is in the topic now, partition by partition as they come."""
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    open_partitions = set(partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    while open_partitions:
        message = consumer.poll(10.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            open_partitions.discard(message.partition())
        else:
            raise RuntimeError(f"{topic}: {error.str()}")
    consumer.unassign()


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def read_dead_letters(consumer: Consumer, topic: str) -> Iterator[DeadLetter]:
    """Every dead letter that is in the topic now."""
    for message in read_topic(consumer, topic):
        headers = {name: _text(value) for name, value in dict(message.headers() or []).items()}
        yield DeadLetter(message.partition() or 0, message.offset() or 0, message.key(), message.value(), headers)


class Decoder:
    """Decodes values by the schema that wrote them, asking the registry once for each schema."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, Any] = {}

    def decode(self, value: bytes | None) -> Any:
        """The record of a message.

        Raises:
            SerializationError: its schema is unknown, or the bytes are not what the schema says.
        """
        schema_id = schema_id_of(value)
        if schema_id not in self._schemas:
            text = self._registry.schema(schema_id)
            self._schemas[schema_id] = None if text is None else load_schema_text(text)
        if self._schemas[schema_id] is None:
            raise SerializationError(f"schema {schema_id} is not in the registry at {self._registry.url}")
        return decode(value or b"", self._schemas[schema_id])

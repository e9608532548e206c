"""Where the simulator resumes after a stop or a crash: Kafka itself says what it has.

Within a partition messages keep the order of the stream (idempotent producer), so the last one of each partition says
exactly which of that partition's messages are there. Only the missing ones are sent. `position` is for partitions from
which retention has deleted them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition
from fraud_common.avro import Decoder
from fraud_common.errors import SerializationError, UserError
from fraud_common.kafka import make_reader, offsets_of
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, TRANSACTIONS

from producer.settings import Settings
from producer.simulator.payments import DAY_MS
from producer.simulator.stream import POSITIONS_A_DAY, Labels, position_of

NOTHING_SENT = -1
# How many messages at the end of a partition are read first; more if none of them is the simulator's.
_WINDOW = 200


@dataclass(frozen=True)
class Resume:
    """What Kafka already has: for each partition the last position of a payment, and the last label."""

    payments: np.ndarray  # (partitions,) position or -1
    label_reported: np.ndarray  # (partitions,) reported_ms of the last label, or -1
    label_position: np.ndarray  # (partitions,) the position of that label's payment, or -1

    @classmethod
    def nothing(cls, partitions: int) -> "Resume":
        """Kafka has nothing of the simulator."""
        return cls(*(np.full(partitions, NOTHING_SENT) for _ in range(3)))

    def copy(self) -> "Resume":
        """One that changes independently."""
        return Resume(self.payments.copy(), self.label_reported.copy(), self.label_position.copy())

    @property
    def partitions(self) -> int:
        """The number of partitions of each topic."""
        return len(self.payments)

    @property
    def found_anything(self) -> bool:
        """Whether the stream was started before."""
        return bool((self.payments != NOTHING_SENT).any())

    def first_day(self, start_day: int) -> int:
        """The earliest day of which some payment may be missing."""
        return start_day if (self.payments < 0).any() else int(self.payments.min()) // POSITIONS_A_DAY

    def first_label_day(self, start_day: int) -> int:
        """The earliest day of which some label may be missing."""
        return start_day if (self.label_reported < 0).any() else int(self.label_reported.min()) // DAY_MS

    def missing_payments(self, positions: np.ndarray, partition: np.ndarray) -> np.ndarray:
        """Mask of the payments, given by position and partition, that Kafka does not have."""
        return positions > self.payments[partition]

    def missing_labels(self, labels: Labels, partition: np.ndarray) -> np.ndarray:
        """Mask of the labels, given with the partition of each, that Kafka does not have."""
        last_reported, last_position = self.label_reported[partition], self.label_position[partition]
        return (labels.reported_ms > last_reported) | (
            (labels.reported_ms == last_reported) & (labels.position > last_position)
        )


def find_resume(settings: Settings, registry: SchemaRegistry, partitions: int) -> Resume:
    """Read the end of every partition.

    Args:
        partitions: the number of partitions of each topic.

    Raises:
        UserError: the registry does not answer, or the broker refuses.
    """
    decoder, client = Decoder(registry), make_reader(settings)
    resume = Resume.nothing(partitions)
    payments = _last_of_each_partition(client, TRANSACTIONS, _reader(decoder, _payment_position))
    for partition, position in payments.items():
        resume.payments[partition] = position
    labels = _last_of_each_partition(client, LABELS, _reader(decoder, _label_time_and_position))
    for partition, (reported_ms, position) in labels.items():
        resume.label_reported[partition], resume.label_position[partition] = reported_ms, position
    client.close()
    return resume


def _payment_position(record: dict[str, Any]) -> int | None:
    return position_of(record["transaction_id"])


def _label_time_and_position(record: dict[str, Any]) -> tuple[int, int] | None:
    position = position_of(record["transaction_id"])
    return None if position is None else (int(record["reported_at"].timestamp() * 1000), position)


def _reader[T](decoder: Decoder, read: Callable[[dict[str, Any]], T | None]) -> Callable[[bytes], T | None]:
    """`read` for encoded records; what can't be decoded is not the simulator's."""

    def read_value(value: bytes) -> T | None:
        try:
            return read(decoder.decode(value))
        except SerializationError:
            return None

    return read_value


def _last_of_each_partition[T: (int, tuple[int, int])](
    consumer: Consumer, topic: str, read: Callable[[bytes], T | None]
) -> dict[int, T]:
    """The newest of the simulator's own messages in each partition.

    Args:
        read: takes a message's value and returns what the caller needs, or None if the simulator did not send it.

    Returns:
        partition -> the largest of what `read` returned, since an old message may have been sent again from the dead
        letters; partitions without any are absent.
    """
    found: dict[int, T] = {}
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        low, high = offsets_of(consumer, topic, partition)
        end, window = high, _WINDOW
        while end > low and partition not in found:
            start = max(low, end - window)
            values = _values(consumer, TopicPartition(topic, partition, start), end)
            own = [item for item in map(read, values) if item is not None]
            if own:
                found[partition] = max(own)
            end, window = start, window * 10
    return found


def _values(consumer: Consumer, start: TopicPartition, end: int) -> list[bytes]:
    """The values of a partition from one offset up to another, without that one."""
    consumer.assign([start])
    values, position = [], start.offset
    while position < end:
        message = consumer.poll(10.0)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                break
            raise UserError(f"{start.topic}[{start.partition}]: {error.str()}")
        position = (message.offset() or 0) + 1
        if position <= end:
            values.append(message.value() or b"")
    consumer.unassign()
    return values

"""Where the simulator goes on after a stop or a crash: Kafka itself says what it has.

Within a partition messages keep the order of the stream (idempotent producer), so the last one of each partition
tells exactly which of that partition's messages are there. What is there is not sent again; what is not, is.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

from fraud_common.dead_letters import Decoder
from fraud_common.errors import SerializationError, UserError
from producer.kafka import offsets_of

log = logging.getLogger("resume")

# How many messages at the end of a partition are looked at first; more where none of them is the simulator's.
WINDOW = 200


@dataclass(frozen=True)
class Simulation:
    """What makes a simulated history what it is. Kept beside the data, since changing it half-way would break both."""

    sim_seed: int
    sim_users: int
    label_delay_scale: float
    start_day: int
    live_day: int


def load_or_start(path: Path, wanted: Simulation) -> Simulation:
    """Return the simulation that this stack is running, or begin the wanted one.

    Raises:
        UserError: the settings no longer fit the history that is in Kafka, or the file can't be read or written.
    """
    try:
        if not path.exists():
            path.write_text(json.dumps(asdict(wanted)))
            return wanted
        running = Simulation(**json.loads(path.read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: {error}; the volume producer-state must be writable and keep that file") from None
    for name in ("sim_seed", "sim_users", "label_delay_scale"):
        had, has = getattr(running, name), getattr(wanted, name)
        if had != has:
            raise UserError(
                f"{name.upper()}={has}: this stack's history was made with {had}; "
                "set it back in .env, or start over with: make clean"
            )
    return running


def last_of_each_partition(consumer: Consumer, topic: str, read: Callable[[bytes], Any | None]) -> dict[int, Any]:
    """The newest of the simulator's own messages in each partition.

    Args:
        read: takes a message's value and returns what it stands for, or None where somebody else sent it.

    Returns:
        partition -> what `read` made of it; partitions without any are absent.
    """
    found = {}
    for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
        low, high = offsets_of(consumer, topic, partition)
        end, window = high, WINDOW
        while end > low and partition not in found:
            start = max(low, end - window)
            read_here = [read(value) for value in _values(consumer, topic, partition, start, end)]
            own = [item for item in read_here if item is not None]
            if own:
                found[partition] = own[-1]
            end, window = start, window * 10
    return found


def _values(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[bytes]:
    consumer.assign([TopicPartition(topic, partition, start)])
    values, position = [], start
    while position < end:
        message = consumer.poll(10.0)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                break
            raise UserError(f"{topic}[{partition}]: {error.str()}")
        position = (message.offset() or 0) + 1
        if position <= end:
            values.append(message.value() or b"")
    consumer.unassign()
    return values


def reader(decoder: Decoder, read: Callable[[dict[str, Any]], Any | None]) -> Callable[[bytes], Any | None]:
    """`read` for decoded records; what can't be decoded is not the simulator's."""

    def read_value(value: bytes) -> Any | None:
        try:
            return read(decoder.decode(value))
        except SerializationError:
            return None

    return read_value


def not_yet_sent(position: np.ndarray, partition: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mask of what comes after the last delivered position of its partition (`last[p]`, -1 where there is none)."""
    return position > last[partition]

"""Up to where the online store is complete: offsets of Kafka by partition, and the newest event time.

Both are written in the transaction of the records that they speak for, so they are right after any crash.
"""

from collections.abc import Collection, Mapping
from typing import Any

import redis

from feature_store.layout import CLOCK_KEY, POSITIONS_KEY
from feature_store.pipelines import load_script

# Topic and number of a partition.
Partition = tuple[str, int]

_ADVANCE = load_script("advance")


def positions(store: redis.Redis) -> dict[Partition, int]:
    """The offset of the first message that is not in Redis, by topic and partition."""
    found: dict[Partition, int] = {}
    raw: dict[bytes, bytes] = store.hgetall(POSITIONS_KEY)
    for name, offset in raw.items():
        topic, _, partition = name.decode().rpartition(":")
        found[topic, int(partition)] = int(offset)
    return found


def clock(store: redis.Redis) -> int:
    """The newest event time in milliseconds; 0 if there is none."""
    return int(store.get(CLOCK_KEY) or 0)


def advance(
    client: redis.Redis, reached: Mapping[Partition, int], newest: int, required: Collection[Partition] = ()
) -> Any:
    """Record up to where Redis is complete. The result is 0 if Redis was emptied; then nothing was recorded.

    Args:
        client: a connection, or a pipeline, in which this becomes one command.
        reached: the offset of the first message that is not in Redis, by topic and partition; at least one.
        newest: event time in milliseconds.
        required: partitions whose position was in Redis before; if one is gone, Redis was emptied.
    """
    arguments: list[str | int] = [newest, len(required), *map(_name, required)]
    for partition, offset in reached.items():
        arguments += [_name(partition), offset]
    return client.register_script(_ADVANCE)([POSITIONS_KEY, CLOCK_KEY], arguments, client=client)


def _name(partition: Partition) -> str:
    topic, number = partition
    return f"{topic}:{number}"

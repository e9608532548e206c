"""Up to where the online store is complete: offsets and arrival times by partition, and the data clock.

All are written in the transaction of the records that they speak for, so they are right after any crash.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from features import DATA_CLOCK_RANK

from feature_store.freshness import Completeness
from feature_store.layout import (
    CLOCK_KEY,
    COMPLETE_KEY,
    EXPIRY_SECONDS,
    NEWEST_USERS_KEY,
    POSITIONS_KEY,
    SCATTERED_KEY,
    PaymentEvent,
)
from feature_store.pipelines import load_script

# Topic and number of a partition.
Partition = tuple[str, int]

_ADVANCE = load_script("advance")
_CONFIRM = load_script("confirm")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the topics have been read."""

    # The offset of the first message that is not in Redis, by topic and partition.
    reached: Mapping[Partition, int] = field(default_factory=dict)
    # Up to which arrival time (ms) partitions of transactions.raw are in Redis.
    complete: Mapping[int, int] = field(default_factory=dict)
    # The number of partitions of transactions.raw; 0 if it is unknown.
    partitions: int = 0
    # Partitions whose position was in Redis before; if one is gone, Redis was emptied and nothing is recorded.
    required: Collection[Partition] = ()


def positions(store: redis.Redis) -> dict[Partition, int]:
    """The offset of the first message that is not in Redis, by topic and partition."""
    found: dict[Partition, int] = {}
    raw: dict[bytes, bytes] = store.hgetall(POSITIONS_KEY)
    for name, offset in raw.items():
        topic, _, partition = name.decode().rpartition(":")
        found[topic, int(partition)] = int(offset)
    return found


def clock(store: redis.Redis) -> int:
    """The data clock in milliseconds; 0 if there is none."""
    return int(store.get(CLOCK_KEY) or 0)


def completeness(store: redis.Redis) -> Completeness:
    """Up to when each partition is in Redis."""
    return Completeness.unpack(store.get(COMPLETE_KEY), bool(store.exists(SCATTERED_KEY)))


def newest_users(payments: Iterable[PaymentEvent], known: Mapping[str, int] | None = None) -> dict[str, int]:
    """The users with the newest payments and the event times of these, as many as the data clock needs.

    Args:
        known: the same of other payments, which is included.
    """
    newest = dict(known or {})
    for payment in payments:
        if payment.event_time > newest.get(payment.user_id, -1):
            newest[payment.user_id] = payment.event_time
    return newest_of(newest)


def newest_of(times: Mapping[str, int]) -> dict[str, int]:
    """Those of the users whose newest payments have these event times."""
    return dict(heapq.nlargest(DATA_CLOCK_RANK, times.items(), key=lambda item: item[1]))


def advance(client: redis.Redis, progress: Progress, newest: Mapping[str, int]) -> Any:
    """Record up to where Redis is complete. The result is 0 if Redis was emptied; then nothing was recorded.

    Args:
        client: a connection, or a pipeline, in which this becomes one command.
        newest: `newest_users` of the payments that were written; they move the data clock.
    """
    arguments: list[str | int] = [DATA_CLOCK_RANK, progress.partitions]
    for items in (
        [_name(partition) for partition in progress.required],
        [item for user, event_time in newest.items() for item in (event_time, user)],
        [item for pair in progress.complete.items() for item in pair],
        [item for partition, offset in progress.reached.items() for item in (_name(partition), offset)],
    ):
        arguments += [len(items), *items]
    keys = [POSITIONS_KEY, CLOCK_KEY, NEWEST_USERS_KEY, COMPLETE_KEY]
    return client.register_script(_ADVANCE)(keys, arguments, client=client)


@dataclass(frozen=True, slots=True)
class ReadToTheEnd:
    """A partition of transactions.raw that had nothing more to read."""

    partition: Partition
    # The offset after its last message.
    end: int
    # When it was asked for its end, in milliseconds: what arrived before is before that offset.
    at: int


def confirm(store: redis.Redis, read: ReadToTheEnd, partitions: int) -> bool:
    """Record up to when a partition is complete; returns whether Redis has everything before its end.

    Args:
        partitions: the number of partitions of transactions.raw.
    """
    _, number = read.partition
    arguments = [partitions, number, _name(read.partition), read.end, read.at]
    return bool(store.register_script(_CONFIRM)([POSITIONS_KEY, COMPLETE_KEY], arguments))


def forget_removed_partitions(store: redis.Redis, partitions: int) -> None:
    """Of a topic that was made again with fewer partitions, those that are gone must not count as slow ones."""
    if len(completeness(store).partitions) > partitions:
        store.delete(COMPLETE_KEY)


def note_scattered(store: redis.Redis) -> None:
    """Payments were found in other partitions than those of their users."""
    store.set(SCATTERED_KEY, 1, ex=EXPIRY_SECONDS)


def _name(partition: Partition) -> str:
    topic, number = partition
    return f"{topic}:{number}"

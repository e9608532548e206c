"""Whether the stream or a batch snapshot is newer: a comparison of arrival times, by partition of transactions.raw.

The rule. Every time here is one of arrival, by the clock of Kafka's broker, and none is an event time: so it is right
for live payments, for a simulated clock that is months back, for replayed data of any year, and whatever a wrong row
says. For each partition the stream records up to when everything that Kafka received is in Redis: the timestamp of the
last message written, or the present while the partition has nothing more, so that a quiet topic is not an old one. A
user's state is as fresh as the user's partition; a merchant's payments are in all partitions, so its state is as fresh
as the slowest of them. Then the stream's state is used

1. if it is current, complete up to a minute ago: nothing can be newer;
2. else, while the stream catches up or is down, if it is complete up to a moment after the last push of snapshots
   began: snapshots have what arrived before that;
3. else, if there is no snapshot of this user or merchant, for as long as a snapshot would be valid.

It also needs to be whole: `history.py` finds what is gone from Redis. In all other cases the snapshot is used. The
partition of a user is that of the producer: CRC32 of the key modulo the number of partitions, the default of
librdkafka. Where the stream finds payments elsewhere, another kind of producer has sent them, and every user is as
fresh as the slowest partition.
"""

import struct
import zlib
from dataclasses import dataclass

from features import SNAPSHOT_SECONDS

CURRENT_MS = 60_000
_WORD = 8


def partition_of(user_id: str, partitions: int) -> int:
    """The partition of a user's payments and labels."""
    return zlib.crc32(user_id.encode()) % partitions


@dataclass(frozen=True, slots=True)
class Completeness:
    """Up to when each partition of transactions.raw is in Redis, in milliseconds of arrival time; 0 is unknown."""

    partitions: tuple[int, ...] = ()
    # Users are not in the partitions that `partition_of` says.
    scattered: bool = False

    @classmethod
    def unpack(cls, value: bytes | None, scattered: bool) -> "Completeness":
        """From the value of feature_stream:complete."""
        if not value:
            return cls()
        count = len(value) // _WORD
        return cls(struct.unpack_from(f">{count}q", value), scattered)

    @property
    def slowest(self) -> int:
        """The moment up to which all partitions are in Redis."""
        return min(self.partitions, default=0)

    def of_user(self, user_id: str) -> int:
        """The moment up to which a user's payments are in Redis."""
        if self.scattered or not self.partitions:
            return self.slowest
        return self.partitions[partition_of(user_id, len(self.partitions))]


def snapshots_are_valid(pushed_at: int, now: int) -> bool:
    """Whether snapshots that do not expire are still of use; without a time of the push they count as just written.

    Args:
        pushed_at: when the last push began; both in milliseconds.
    """
    return not pushed_at or now - pushed_at <= SNAPSHOT_SECONDS * 1000


def stream_is_newer(complete_until: int, snapshot_at: int | None, now: int) -> bool:
    """Whether the stream's state is at least as new as the snapshot of the same user or merchant: the rule above.

    Args:
        complete_until: up to when the stream has everything; 0 if that is unknown.
        snapshot_at: when the push of the snapshot began, None if there is no snapshot; all in milliseconds.
    """
    if stream_is_current(complete_until, now):
        return True
    if not complete_until:
        return False
    return now - complete_until <= SNAPSHOT_SECONDS * 1000 if snapshot_at is None else complete_until >= snapshot_at


def stream_is_current(complete_until: int, now: int) -> bool:
    """Whether the stream has what Kafka received up to a minute ago: what it does not have then does not exist.

    Args:
        complete_until: up to when the stream has everything; 0 if that is unknown; both in milliseconds.
    """
    return bool(complete_until) and now - complete_until <= CURRENT_MS

"""Prepares Redis before the stream follows Kafka: replaces keys of earlier releases, and fills an empty Redis.

A Redis that an earlier release filled has fewer totals than the features need, so it is emptied and filled again.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import batched

import redis
from feature_store import coverage
from feature_store.coverage import Progress
from feature_store.layout import (
    COMPLETE_KEY,
    DEVICE_FRAUDS,
    DEVICE_USERS,
    LAYOUT_KEY,
    LAYOUT_VERSION,
    MERCHANT_DAYS,
    NEWEST_USERS_KEY,
    POSITIONS_KEY,
    USER_EVENTS,
    USER_LABELS,
    event_time_of,
)
from feature_store.pipelines import NamedPipeline
from feature_store.rebuild import Topics, rebuild_from_bronze
from fraud_common.errors import Stopping, UserError
from redis.exceptions import RedisError

from feature_stream import metrics
from feature_stream.settings import StreamSettings

log = logging.getLogger("feature-stream")

REBUILD_LOCK = "feature_stream:rebuild"
REBUILD_LOCK_SECONDS = 60.0

# The name of user_labels in earlier releases.
_USER_VERDICTS = "user_verdicts:{}"
# The newest event time of all users, which one wrong row could move: the data clock of earlier releases.
_NEWEST_EVENT_TIME = "feature_stream:clock"
_KEYS_PER_SCAN = 10_000


def rename_old_keys(store: redis.Redis) -> int:
    """Rename user_verdicts:{user_id} to user_labels:{user_id}; returns how many there were.

    Labels that are under the new name already are kept, so it may run at any time, and again after a crash.
    """
    renamed = 0
    prefix, _, _ = _USER_VERDICTS.partition("{}")
    for key in store.scan_iter(match=_USER_VERDICTS.format("*"), count=_KEYS_PER_SCAN):
        new_key = USER_LABELS.format(key.decode().removeprefix(prefix))
        with store.pipeline(transaction=True) as pipeline:
            pipeline.zunionstore(new_key, [new_key, key])
            pipeline.unlink(key)
            pipeline.execute()
        renamed += 1
    if renamed:
        log.info("renamed the labels of %d users from user_verdicts to user_labels", renamed)
    return renamed


def find_data_clock(store: redis.Redis) -> None:
    """Set the data clock of a Redis that an earlier release filled, from the payments that it has."""
    if store.exists(NEWEST_USERS_KEY) or not coverage.positions(store):
        return
    newest: dict[str, int] = {}
    prefix, _, _ = USER_EVENTS.partition("{}")
    for keys in batched(store.scan_iter(match=USER_EVENTS.format("*"), count=_KEYS_PER_SCAN), 1000, strict=False):
        lookup = NamedPipeline(store.pipeline(transaction=False))
        for key in keys:
            lookup.named(key).zrange(key, -1, -1)
        found = lookup.execute()
        times = {key.decode().removeprefix(prefix): event_time_of(member) for key in keys for member in found[key]}
        newest = coverage.newest_of(newest | times)
    coverage.advance(store, Progress(), newest)
    store.delete(_NEWEST_EVENT_TIME)
    log.info("found the data clock from the payments in Redis: %d ms", coverage.clock(store))


def empty_if_other_layout(store: redis.Redis) -> None:
    """Remove what a program of another layout has written, labels apart, so that Redis is filled again.

    Its offsets and its completeness are removed first: from then on the API uses snapshots, and a crash in between only
    leaves what the next start removes.
    """
    if store.get(LAYOUT_KEY) == b"%d" % LAYOUT_VERSION:
        return
    store.delete(POSITIONS_KEY, COMPLETE_KEY)
    removed = 0
    for kind in (USER_EVENTS, MERCHANT_DAYS, DEVICE_USERS, DEVICE_FRAUDS):
        for keys in batched(store.scan_iter(match=kind.format("*"), count=_KEYS_PER_SCAN), 1000, strict=False):
            removed += store.unlink(*keys)
    store.set(LAYOUT_KEY, LAYOUT_VERSION)
    if removed:
        log.info("removed %d keys of an earlier release, which Bronze and Kafka fill again", removed)


def fill_if_empty(settings: StreamSettings, store: redis.Redis, stop: threading.Event) -> None:
    """Fill a Redis without positions: it is new, has lost everything, or has another layout.

    Bronze has the past, Kafka what came after.

    Raises:
        RedisError: Redis or Trino does not answer.
        Stopping: the event was set meanwhile.
    """
    has_layout = store.get(LAYOUT_KEY) == b"%d" % LAYOUT_VERSION
    if has_layout and (coverage.positions(store) or settings.feature_stream_from == "kafka"):
        return
    # Those of an earlier rebuild.
    metrics.FILLED.set(0)
    metrics.TO_FILL.set(0)
    with metrics.FILLING.track_inprogress():
        _fill(settings, store, stop)


def _fill(settings: StreamSettings, store: redis.Redis, stop: threading.Event) -> None:
    # One of several processes does it.
    lock = store.lock(REBUILD_LOCK, timeout=REBUILD_LOCK_SECONDS, thread_local=False)
    while not lock.acquire(blocking_timeout=1):
        if stop.is_set():
            raise Stopping("another process fills Redis")
    try:
        empty_if_other_layout(store)
        if not coverage.positions(store) and settings.feature_stream_from == "bronze":
            topics = Topics(settings.transactions_topic, settings.labels_topic)
            with renewed(lock):
                rebuild_from_bronze(settings, store, topics, _on_progress(lock, stop))
    except UserError as error:
        raise RedisError(str(error)) from error
    finally:
        if lock.owned():
            lock.release()


def _on_progress(lock: redis.lock.Lock, stop: threading.Event) -> Callable[[int, int], None]:
    def on_progress(filled: int, total: int) -> None:
        metrics.FILLED.set(filled)
        metrics.TO_FILL.set(total)
        if stop.is_set():
            raise Stopping("the rebuild is not complete; the next start begins it again")
        lock.reacquire()

    return on_progress


@contextmanager
def renewed(lock: redis.lock.Lock) -> Iterator[None]:
    """Renew a lock in the background while Trino works, which may take longer than the lock lasts."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(REBUILD_LOCK_SECONDS / 4):
            with suppress(RedisError):  # a lost lock is noticed with the next batch
                lock.reacquire()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

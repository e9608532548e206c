"""Metrics of what Redis contains, and of the last reconciliation, counted once a minute in a thread of their own."""

import json
import threading
from contextlib import suppress
from typing import Any

import redis
from feature_store import coverage
from feature_store.layout import PUSHED_AT_KEY, USER_EVENTS
from feature_store.reconcile import REPORT_KEY
from fraud_common.redis import connect
from fraud_common.settings import RedisSettings
from redis.exceptions import RedisError

from feature_stream import metrics

SECONDS_BETWEEN_COUNTS = 60.0


def keep_counting(settings: RedisSettings, stop: threading.Event) -> None:
    """Count until the event is set."""
    store = connect(settings, retries=0)
    while True:
        with suppress(RedisError):  # the stream itself reports it
            count_all(store)
        if stop.wait(SECONDS_BETWEEN_COUNTS):
            store.close()
            return


def count_all(store: redis.Redis) -> None:
    """Set the metrics of what Redis contains."""
    metrics.CLOCK.set(coverage.clock(store) / 1000)
    metrics.SCATTERED.set(coverage.completeness(store).scattered)
    metrics.PUSHED.set(int(store.get(PUSHED_AT_KEY) or 0) / 1000)
    metrics.MEMORY.set(store.info("memory")["used_memory"])
    pattern = USER_EVENTS.format("*")
    metrics.USERS.set(sum(1 for _ in store.scan_iter(match=pattern, count=1000)))
    if report := store.get(REPORT_KEY):
        found: dict[str, Any] = json.loads(report)
        metrics.CHECKED.set(found["checked"])
        for outcome in metrics.OUTCOMES:
            metrics.DIFFERENT.labels(outcome).set(found[outcome])
        metrics.INCOMPLETE.set(found.get("incomplete", 0))
        metrics.RECONCILED.set(found["at"])

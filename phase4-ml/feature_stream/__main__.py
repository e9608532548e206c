"""Transactions and labels from Kafka into Redis, within a second: what a payment's score knows of the ones before it.

python -m feature_stream

Upstream are transactions.raw and transactions.labels; downstream is the feature client of the API. How far it is stands
in Redis beside the data, written in the same transaction: whatever Redis loses, the messages after it are read again.
Offsets in Kafka are committed after that, for whoever looks at the lag.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from pydantic import Field
from redis.exceptions import RedisError

from feature_store import event_store
from feature_stream import metrics
from fraud_common.errors import Stopping
from feature_store.records import BrokenRule, to_payment, to_verdict
from feature_store.event_store import PaymentEvent, Verdict
from feature_store.rebuild import rebuild_from_bronze
from feature_store.gold import GoldSettings
from fraud_common.kafka import CONSUMER, readable, wait_for_topics
from fraud_common.kafka import Place, watch_lag
from feature_store.reconcile import REPORT_KEY
from fraud_common.schema_registry import Decoder, Registry
from fraud_common.service import ServiceSettings, run_service
from feature_store.snapshot_store import FeatureError, RedisSettings, connect, snapshot_store
from fraud_common.avro import SerializationError

log = logging.getLogger("feature-stream")

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_TRIALS = 0.5
SECONDS_BETWEEN_COUNTS = 60.0
REBUILD_LOCK = "feature_stream:rebuild"
REBUILD_LOCK_SECONDS = 60.0


class StreamSettings(RedisSettings, GoldSettings, ServiceSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    transactions_topic: str = "transactions.raw"
    labels_topic: str = "transactions.labels"
    feature_stream_group: str = "feature-stream"
    # Where an empty Redis is filled from: Bronze, which has more than Kafka keeps, or Kafka alone.
    feature_stream_from: Literal["bronze", "kafka"] = "bronze"
    # Payments of one user that are kept, the newest ones.
    feature_stream_cap: int = Field(default=1000, ge=10, le=100_000)
    feature_stream_batch: int = Field(default=1000, ge=1, le=100_000)
    metrics_port: int = Field(default=9403, ge=0, le=65535)


class FeatureStream:
    """One run of the stream."""

    def __init__(self, settings: StreamSettings, stop: threading.Event) -> None:
        self.settings = settings
        self._stop = stop
        topics = [settings.transactions_topic, settings.labels_topic]
        wait_for_topics(settings.kafka_bootstrap_servers, topics, settings.connect_timeout_seconds)
        self._decoder = Decoder(Registry(settings.schema_registry_url))
        with snapshot_store(settings):  # a wrong password is said at once
            pass
        self._store = connect(settings, retries=0)
        self._capped: set[str] = set()
        # The next offset to be read of each partition that is ours, and those whose position stands in Redis.
        self.positions: dict[Place, int] = {}
        self._held: set[Place] = set()
        self._consumer = Consumer(
            {
                **CONSUMER,
                "bootstrap.servers": settings.kafka_bootstrap_servers,
                "group.id": settings.feature_stream_group,
                # The same partition of both topics to the same process, so that each user has one writer.
                "partition.assignment.strategy": "range",
                # Where Kafka no longer has what Redis lacks: go on with the oldest that is left.
                "auto.offset.reset": "earliest",
            },
            logger=logging.getLogger("kafka"),
        )

    def run(self) -> None:
        """Follow until SIGTERM; the batch in hand is finished."""
        settings = self.settings
        lag = watch_lag(self._consumer, self.positions, _tell_lag, self._stop)
        count = threading.Thread(target=self._keep_counting, daemon=True)
        try:
            self._when_redis_answers(self._fill_if_empty)
            told_at, records = time.monotonic(), 0
            topics = [settings.transactions_topic, settings.labels_topic]
            self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke)
            log.info("following %s and %s", settings.transactions_topic, settings.labels_topic)
            metrics.RUNNING.set(1)
            count.start()
            while not self._stop.is_set():
                batch = readable(self._consumer.consume(settings.feature_stream_batch, 0.05))
                if batch:
                    self._take(batch)
                    records += len(batch)
                if (passed := time.monotonic() - told_at) >= SECONDS_BETWEEN_LINES:
                    log.info("%.0f messages/s", records / passed)
                    told_at, records = time.monotonic(), 0
        except Stopping as reason:
            log.info("stopping: %s", reason)
        finally:
            metrics.RUNNING.set(0)
            self._stop.set()
            lag.join()
            self._consumer.close()
            self._store.close()

    def _take(self, batch: list[Message]) -> None:
        """A batch into Redis; where that fails, back to what Redis has, once it answers."""
        payments, verdicts = self._decode(batch)
        reached = {(message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1 for message in batch}
        try:
            applied = event_store.apply(
                self._store, payments, verdicts, reached, self.settings.feature_stream_cap, held=self._held
            )
        except RedisError as error:
            log.warning("redis: %s; messages wait in Kafka until it answers", error)
            self._go_back()
            return
        if applied.emptied:
            log.warning("redis has been emptied; what was in it comes back from where it came")
            self._go_back()
            return
        ours = {place: at for place, at in reached.items() if place in self.positions}
        self.positions.update(ours)
        self._held.update(ours)
        self._commit(reached)
        self._count(batch, applied)

    def _go_back(self) -> None:
        metrics.RUNNING.set(0)
        self._when_redis_answers(self._fill_if_empty)
        self._assign(list(self.positions))
        metrics.RUNNING.set(1)

    def _decode(self, batch: list[Message]) -> tuple[list[PaymentEvent], list[Verdict]]:
        payments: list[PaymentEvent] = []
        verdicts: list[Verdict] = []
        for message in batch:
            try:
                record = self._decoder.decode_when_answered(message.value(), self._stop)
                if message.topic() == self.settings.transactions_topic:
                    payments.append(to_payment(record, message.timestamp()[1]))
                else:
                    verdicts.append(to_verdict(record, message.timestamp()[1]))
            except BrokenRule as rule:
                metrics.SKIPPED.labels(str(rule)).inc()
            except (SerializationError, AttributeError, TypeError, ValueError):
                metrics.SKIPPED.labels("not_decodable").inc()
        return payments, verdicts

    def _commit(self, reached: dict[Place, int]) -> None:
        try:
            offsets = [TopicPartition(*place, at) for place, at in reached.items()]
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            # For the eye only; Redis knows.
            log.warning("offsets not committed: %s", error.args[0].str())

    def _count(self, batch: list[Message], applied: event_store.Applied) -> None:
        now = time.time()
        age = 0.0
        for message in batch:
            metrics.RECORDS.labels(message.topic()).inc()
            if message.topic() == self.settings.transactions_topic:
                age = max(0.0, now - message.timestamp()[1] / 1000)
                metrics.DELAY.observe(age)
        metrics.LAG_SECONDS.set(age)
        metrics.PAYMENTS.inc(applied.payments)
        metrics.VERDICTS.inc(applied.verdicts)
        metrics.TOO_OLD.inc(applied.too_old)
        if applied.capped:
            metrics.CAPPED.inc(sum(applied.capped.values()))
            for user in applied.capped.keys() - self._capped:
                log.warning("%s has more than FEATURE_STREAM_CAP=%d payments", user, self.settings.feature_stream_cap)
            self._capped |= applied.capped.keys()
            metrics.CAPPED_USERS.set(len(self._capped))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assign([(place.topic, place.partition) for place in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self.positions.pop((place.topic, place.partition), None)
            self._held.discard((place.topic, place.partition))
            metrics.LAG.remove(place.topic, place.partition)

    def _assign(self, places: list[Place]) -> None:
        """Read on where Redis ends."""
        known = self._when_redis_answers(lambda: event_store.positions(self._store))
        self.positions.update({place: known.get(place, 0) for place in places})
        self._held = self.positions.keys() & known.keys()
        self._consumer.assign([TopicPartition(*place, known.get(place, OFFSET_BEGINNING)) for place in places])
        log.info("reading on with %d partitions", len(places))

    def _fill_if_empty(self) -> None:
        """A Redis that knows no positions is new, or has lost all: Bronze has what was, Kafka what came after."""
        if event_store.positions(self._store) or self.settings.feature_stream_from == "kafka":
            return
        # Those of a filling before this one.
        metrics.FILLED.set(0)
        metrics.TO_FILL.set(0)
        with metrics.FILLING.track_inprogress():
            self._fill()

    def _fill(self) -> None:
        # Of several processes one does.
        lock = self._store.lock(REBUILD_LOCK, timeout=REBUILD_LOCK_SECONDS, thread_local=False)
        while not lock.acquire(blocking_timeout=1):
            if self._stop.is_set():
                raise Stopping("another process fills Redis")
        try:
            if not event_store.positions(self._store):
                topics = (self.settings.transactions_topic, self.settings.labels_topic)
                cap = self.settings.feature_stream_cap
                with renewed(lock):
                    rebuild_from_bronze(self.settings, self._store, topics, cap, self._still_ours(lock))
        except FeatureError as error:
            raise RedisError(str(error)) from error
        finally:
            if lock.owned():
                lock.release()

    def _still_ours(self, lock: redis.lock.Lock) -> Callable[[int, int], None]:
        def go_on(filled: int, total: int) -> None:
            metrics.FILLED.set(filled)
            metrics.TO_FILL.set(total)
            if self._stop.is_set():
                raise Stopping("the rebuild is not complete; the next start begins it anew")
            lock.reacquire()

        return go_on

    def _when_redis_answers[T](self, ask: Callable[[], T]) -> T:
        told_at = 0.0
        while True:
            try:
                return ask()
            except RedisError as error:
                if time.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                    told_at = time.monotonic()
                    log.warning("%s; trying again until it works", error)
                if self._stop.wait(SECONDS_BETWEEN_TRIALS):
                    raise Stopping(str(error)) from None

    def _keep_counting(self) -> None:
        """Users, memory, and what the last reconciliation found."""
        store = connect(self.settings, retries=0)
        while True:
            with suppress(RedisError):  # the stream itself says so
                count_all(store)
            if self._stop.wait(SECONDS_BETWEEN_COUNTS):
                store.close()
                return


@contextmanager
def renewed(lock: redis.lock.Lock) -> Iterator[None]:
    """Keeps a lock while Trino thinks: that may be longer than the lock holds by itself."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(REBUILD_LOCK_SECONDS / 4):
            with suppress(RedisError):  # a lock that is lost is noticed with the next batch
                lock.reacquire()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def count_all(store: redis.Redis) -> None:
    """Set the metrics of what Redis holds."""
    metrics.CLOCK.set(event_store.clock(store) / 1000)
    metrics.MEMORY.set(store.info("memory")["used_memory"])
    pattern = event_store.USER_EVENTS.format("*")
    metrics.USERS.set(sum(1 for _ in store.scan_iter(match=pattern, count=1000)))
    if report := store.get(REPORT_KEY):
        found: dict[str, Any] = json.loads(report)
        metrics.CHECKED.set(found["checked"])
        for outcome in ("repaired", "ahead"):
            metrics.DIFFERENT.labels(outcome).set(found[outcome])
        metrics.RECONCILED.set(found["at"])


def _tell_lag(place: Place, lag: int) -> None:
    metrics.LAG.labels(*place).set(lag)


if __name__ == "__main__":
    run_service(StreamSettings, lambda settings, stop: FeatureStream(settings, stop).run())

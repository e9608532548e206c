"""Follows transactions and labels from Kafka into Redis: what a payment's score knows of the payments before it.

Upstream are transactions.raw and transactions.labels; downstream is the feature client of the API. Redis has the
stream's offsets beside the data, written in the same transaction: whatever Redis loses, the messages after it are read
again. Offsets are committed to Kafka after that, for those who look at the lag.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from feature_store import coverage, writer
from feature_store.coverage import Progress, ReadToTheEnd
from feature_store.freshness import partition_of
from feature_store.layout import Label, PaymentEvent
from feature_store.records import RuleViolation, to_label, to_payment
from feature_store.writer import Applied, Batch
from fraud_common.avro import Decoder
from fraud_common.errors import SerializationError, Stopping
from fraud_common.kafka import (
    Partition,
    kafka_errors,
    make_group_consumer,
    readable,
    require_topics,
    wait_for_broker,
    watch_lag,
)
from fraud_common.redis import connect, is_full, redis_client, require_room
from fraud_common.schema_registry import SchemaRegistry
from redis.exceptions import RedisError

from feature_stream import metrics
from feature_stream.counts import keep_counting
from feature_stream.fill import fill_if_empty, find_data_clock, rename_old_keys
from feature_stream.settings import StreamSettings

log = logging.getLogger("feature-stream")

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_TRIALS = 0.5


@dataclass
class _Assigned:
    """The partitions of this process."""

    # The next offset to be read of each.
    positions: dict[Partition, int] = field(default_factory=dict)
    # Those whose position is in Redis.
    in_redis: set[Partition] = field(default_factory=set)

    def reached(self, offsets: Mapping[Partition, int]) -> None:
        """Redis has everything before these offsets; partitions that were revoked meanwhile are ignored."""
        ours = {partition: offset for partition, offset in offsets.items() if partition in self.positions}
        self.positions.update(ours)
        self.in_redis.update(ours)

    def remove(self, partition: Partition) -> None:
        """The partition was revoked."""
        self.positions.pop(partition, None)
        self.in_redis.discard(partition)


def run(settings: StreamSettings, stop: threading.Event) -> None:
    """Follow until the event is set; the batch in hand is finished.

    Raises:
        UserError: a setting or a topic is wrong, or a service does not answer at the start.
        Stopping: the event was set while Redis, Trino or the registry did not answer.
    """
    partitions = require_topics(wait_for_broker(settings), settings.transactions_topic, settings.labels_topic)
    with redis_client(settings) as store:  # a wrong password is reported at once
        _warn_if_it_evicts(store)
    with kafka_errors():
        FeatureStream(settings, stop, partitions[settings.transactions_topic]).run()


class FeatureStream:
    """One run of the stream."""

    def __init__(self, settings: StreamSettings, stop: threading.Event, partitions: int) -> None:
        self._settings = settings
        self._stop = stop
        # Of transactions.raw.
        self._partitions = partitions
        # A payment was found in another partition than that of its user; and when Redis was last told so.
        self._scattered = False
        self._scattered_noted_at = 0.0
        self._assigned = _Assigned()
        # Redis has refused a write for lack of memory.
        self._full = False
        # Not while Redis is filled, is full, or is not there.
        self._following = False
        self._trimmed_users: set[str] = set()
        self._decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
        self._store = connect(settings, retries=0)
        options = {
            # The same partition of both topics to the same process, so that each user has one writer.
            "partition.assignment.strategy": "range",
            # If Kafka no longer has what Redis lacks, the oldest message that is left comes next.
            "auto.offset.reset": "earliest",
        }
        self._consumer = make_group_consumer(settings, settings.feature_stream_group, **options)
        # Asks for the ends of partitions, and reads nothing: a consumer in a call of one thread makes others wait.
        self._ends = make_group_consumer(settings, settings.feature_stream_group)

    def run(self) -> None:
        """Prepare Redis, then follow Kafka."""
        lag = watch_lag(self._ends, self._assigned.positions, self._report_lag, self._stop)
        try:
            self._when_redis_answers(self._replace_old_keys)
            self._when_redis_answers(self._fill_if_empty)
            self._follow()
        finally:
            self._set_following(False)
            self._stop.set()
            lag.join()
            self._ends.close()
            self._consumer.close()
            self._store.close()

    def _follow(self) -> None:
        settings = self._settings
        topics = [settings.transactions_topic, settings.labels_topic]
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke)
        log.info("following %s and %s", *topics)
        self._set_following(True)
        threading.Thread(target=keep_counting, args=(settings, self._stop), daemon=True).start()
        logged_at, records = time.monotonic(), 0
        while not self._stop.is_set():
            messages = readable(self._consumer.consume(settings.feature_stream_batch, 0.05))
            if messages:
                self._take(messages)
                records += len(messages)
            if (passed := time.monotonic() - logged_at) >= SECONDS_BETWEEN_LINES:
                log.info("%.0f messages/s", records / passed)
                logged_at, records = time.monotonic(), 0

    def _take(self, messages: list[Message]) -> None:
        """Write a batch to Redis; if that fails, return to what Redis has once it answers."""
        payments, labels = self._decode(messages)
        self._note_if_scattered()
        reached = _next_offsets(messages)
        complete = self._complete_until(messages)
        batch = Batch(payments, labels, Progress(reached, complete, self._partitions, self._assigned.in_redis))
        try:
            applied = writer.apply(self._store, batch, self._settings.feature_stream_max_payments_per_user)
        except RedisError as error:
            log.warning("redis: %s; messages wait in Kafka until it takes them", error)
            self._note_if_full(error)
            self._return_to_redis()
            return
        if applied.emptied:
            log.warning("redis was emptied; its contents are written again from Bronze and Kafka")
            self._return_to_redis()
            return
        self._assigned.reached(reached)
        self._commit(reached)
        for partition, until in complete.items():
            metrics.COMPLETE.labels(partition).set(until / 1000)
        self._count(messages, applied)

    def _return_to_redis(self) -> None:
        self._set_following(False)
        self._when_redis_answers(self._fill_if_empty)
        self._assign(list(self._assigned.positions))
        self._set_following(True)

    def _note_if_full(self, error: RedisError) -> None:
        if is_full(error):
            self._full = True
            metrics.FULL.set(1)

    def _wait_for_room(self) -> None:
        """Do nothing unless Redis was full; a rebuild would read all of Bronze again, only to be refused again."""
        if self._full:
            require_room(self._store)
            self._full = False
            metrics.FULL.set(0)
            log.info("redis has room again")

    def _set_following(self, following: bool) -> None:
        self._following = following
        metrics.RUNNING.set(following)

    def _complete_until(self, messages: list[Message]) -> dict[int, int]:
        """Up to which arrival time (ms) each partition of transactions.raw is in Redis with these messages."""
        # Not the future, whatever timestamps a producer sets where the topic lets it.
        now = round(time.time() * 1000)
        return {
            message.partition() or 0: min(message.timestamp()[1], now)
            for message in messages
            if message.topic() == self._settings.transactions_topic and message.timestamp()[1] > 0
        }

    def _decode(self, messages: list[Message]) -> tuple[list[PaymentEvent], list[Label]]:
        payments: list[PaymentEvent] = []
        labels: list[Label] = []
        for message in messages:
            _, arrived_ms = message.timestamp()
            try:
                record = self._decoder.decode_when_answered(message.value(), self._stop)
                if message.topic() == self._settings.transactions_topic:
                    payment = to_payment(record, arrived_ms)
                    payments.append(payment)
                    if partition_of(payment.user_id, self._partitions) != message.partition():
                        self._scattered = True
                else:
                    labels.append(to_label(record, arrived_ms))
            except RuleViolation as rule:
                metrics.SKIPPED.labels(str(rule)).inc()
            except (SerializationError, AttributeError, TypeError, ValueError):
                metrics.SKIPPED.labels("not_decodable").inc()
        return payments, labels

    def _note_if_scattered(self) -> None:
        """Tell the API, before it sees these payments, that users are not in the partitions of `partition_of`."""
        if not self._scattered or time.monotonic() - self._scattered_noted_at < SECONDS_BETWEEN_LINES:
            return
        with suppress(RedisError):  # the batch meets it, too, and is read again
            coverage.note_scattered(self._store)
            if not self._scattered_noted_at:
                log.warning("payments are not in the partitions of their users' CRC32; the slowest partition counts")
            self._scattered_noted_at = time.monotonic()
            self._scattered = False
            metrics.SCATTERED.set(1)

    def _commit(self, offsets: Mapping[Partition, int]) -> None:
        try:
            committed = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
            self._consumer.commit(offsets=committed, asynchronous=True)
        except KafkaException as error:
            # Only shown to people; Redis has the offsets that count.
            log.warning("offsets not committed: %s", error.args[0].str())

    def _count(self, messages: list[Message], applied: Applied) -> None:
        now = time.time()
        age = 0.0
        for topic, number in Counter(message.topic() for message in messages).items():
            metrics.RECORDS.labels(topic).inc(number)
        for message in messages:
            if message.topic() == self._settings.transactions_topic:
                _, arrived_ms = message.timestamp()
                age = max(0.0, now - arrived_ms / 1000)
                metrics.DELAY.observe(age)
        metrics.LAG_SECONDS.set(age)
        metrics.PAYMENTS.inc(applied.payments)
        metrics.LABELS.inc(applied.labels)
        metrics.TOO_OLD.inc(applied.too_old)
        if applied.trimmed:
            metrics.TRIMMED.inc(sum(applied.trimmed.values()))
            limit = self._settings.feature_stream_max_payments_per_user
            for user in applied.trimmed.keys() - self._trimmed_users:
                log.warning("%s has more than FEATURE_STREAM_MAX_PAYMENTS_PER_USER=%d payments", user, limit)
            self._trimmed_users |= applied.trimmed.keys()
            metrics.TRIMMED_USERS.set(len(self._trimmed_users))

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assign([(each.topic, each.partition) for each in partitions])

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._assigned.remove((each.topic, each.partition))
            metrics.LAG.remove(each.topic, each.partition)
            if each.topic == self._settings.transactions_topic:
                metrics.COMPLETE.remove(each.partition)

    def _assign(self, partitions: list[Partition]) -> None:
        """Resume at the offsets in Redis."""
        known = self._when_redis_answers(lambda: coverage.positions(self._store))
        self._assigned.positions.update({partition: known.get(partition, 0) for partition in partitions})
        self._assigned.in_redis = self._assigned.positions.keys() & known.keys()
        self._consumer.assign(
            [TopicPartition(*partition, known.get(partition, OFFSET_BEGINNING)) for partition in partitions]
        )
        # Shown as the group's lag, in partitions without new messages, too.
        if reached := {partition: known[partition] for partition in partitions if partition in known}:
            self._commit(reached)
        numbers = [number for topic, number in partitions if topic == self._settings.transactions_topic]
        self._partitions = max(self._partitions, *(number + 1 for number in numbers), 0)
        log.info("reading %d partitions from the offsets in Redis", len(partitions))

    def _report_lag(self, partition: Partition, lag: int) -> None:
        """Called by the thread that watches the lag: a partition that has nothing more is complete up to now."""
        metrics.LAG.labels(*partition).set(lag)
        topic, number = partition
        end = self._assigned.positions.get(partition)
        if lag or end is None or topic != self._settings.transactions_topic or not self._following:
            return
        now = time.time()
        with suppress(RedisError):  # the stream itself reports it
            read = ReadToTheEnd(partition, end, round(now * 1000))
            if coverage.confirm(self._store, read, self._partitions):
                metrics.COMPLETE.labels(number).set(now)

    def _replace_old_keys(self) -> None:
        rename_old_keys(self._store)
        find_data_clock(self._store)
        coverage.forget_removed_partitions(self._store, self._partitions)

    def _fill_if_empty(self) -> None:
        fill_if_empty(self._settings, self._store, self._stop)

    def _when_redis_answers[T](self, ask: Callable[[], T]) -> T:
        """Repeat a request while Redis does not answer, or is full.

        Raises:
            Stopping: SIGTERM arrived meanwhile.
        """
        warned_at = 0.0
        while True:
            try:
                self._wait_for_room()
                return ask()
            except RedisError as error:
                self._note_if_full(error)
                if time.monotonic() - warned_at >= SECONDS_BETWEEN_LINES:
                    warned_at = time.monotonic()
                    log.warning("%s; trying again until it works", error)
                if self._stop.wait(SECONDS_BETWEEN_TRIALS):
                    raise Stopping(str(error)) from None


def _warn_if_it_evicts(store: redis.Redis) -> None:
    """A Redis elsewhere may have another policy than ours."""
    memory: dict[str, Any] = store.info("memory")
    if memory["maxmemory"] and memory["maxmemory_policy"] != "noeviction":
        log.warning(
            "redis evicts keys when it is full, so histories may vanish: set maxmemory-policy to noeviction, not %s",
            memory["maxmemory_policy"],
        )


def _next_offsets(messages: list[Message]) -> dict[Partition, int]:
    """The offset after the last message of each partition."""
    return {(message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1 for message in messages}

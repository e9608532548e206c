"""How far the job is: the consumer group's offsets in Kafka, and Prometheus metrics."""

import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition
from fraud_common.payments import label_rules_sql, payment_rules_sql
from fraud_common.topics import BRONZE_GROUP, LABELS, TRANSACTIONS
from prometheus_client import Counter, Gauge
from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

log = logging.getLogger("progress")

# A batch of the largest size takes two minutes on two busy cores; a stream without a sign of life for so long hangs.
STUCK_SECONDS = 600.0

ROWS = Counter("bronze_rows", "Rows written to Bronze", ["topic"])
RULE_VIOLATIONS = Counter(
    "bronze_rule_violations", "Rows sent to the dead letter topic, by each rule that they violate", ["topic", "rule"]
)
DEAD_LETTERS = Counter("bronze_dead_letters", "Rows sent to the dead letter topic", ["topic"])
# 0 before the first event, which would not be seen otherwise.
for topic_name, rules in ((TRANSACTIONS, payment_rules_sql("spark")), (LABELS, label_rules_sql("spark"))):
    DEAD_LETTERS.labels(topic_name)
    for rule_name in rules:
        RULE_VIOLATIONS.labels(topic_name, rule_name)
INPUT_RATE = Gauge("bronze_input_rows_per_second", "Rows that arrive", ["topic"])
PROCESSING_RATE = Gauge("bronze_processed_rows_per_second", "Rows that the job can process", ["topic"])
BATCH_SECONDS = Gauge("bronze_batch_duration_seconds", "How long the last batch took", ["topic"])
LAST_COMMIT = Gauge("bronze_last_commit_timestamp_seconds", "When the last batch was committed", ["topic"])
LAG = Gauge("bronze_lag_records", "Messages that were there when the last batch began and are not in Bronze", ["topic"])
SCHEMAS_REFUSED = Gauge("bronze_schemas_refused", "Registered schema versions that Bronze does not use", ["topic"])
RUNNING = Gauge("bronze_running", "1 while the stream works, also when nothing arrives", ["topic"])
STOPPED = Gauge("bronze_stopped", "1 if the stream was not started, and why", ["topic", "reason"])
EXPIRED = Gauge(
    "bronze_expired_messages",
    "Messages that Kafka had deleted before Bronze read them, found at the last start",
    ["topic"],
)
LAST_EVENT = Gauge("bronze_last_event_timestamp_seconds", "The newest event time in Bronze", ["topic"])


@dataclass(frozen=True)
class BatchCounts:
    """What was in a batch."""

    good: int
    bad: int
    newest: datetime | None  # event time of the newest good row; None where there is none
    unknown: int = 0  # how many of the bad rows have a schema id that the registry does not list


def record_batch(topic: str, counts: BatchCounts, violations: dict[str, int], newest: datetime | None) -> None:
    """Count what a batch did.

    Args:
        topic: where the batch came from.
        counts: the batch's rows.
        violations: how many of its rows violate each rule.
        newest: the newest event time in the table.
    """
    ROWS.labels(topic).inc(counts.good)
    DEAD_LETTERS.labels(topic).inc(counts.bad)
    for rule, count in violations.items():
        RULE_VIOLATIONS.labels(topic, rule).inc(count)
    if newest is not None:
        LAST_EVENT.labels(topic).set(newest.timestamp())


class ProgressListener(StreamingQueryListener):
    """After each batch: its end offsets to Kafka, its rates to Prometheus.

    Spark keeps its offsets in the checkpoint, which alone decides what is read. The group exists so that every Kafka
    tool shows the lag.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": BRONZE_GROUP, "enable.auto.commit": False}
        )
        self._topics: dict[str, str] = {}  # run id -> topic
        self._last_sign: dict[str, float] = {}  # topic -> when its stream finished a batch, or found nothing to do

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 (Spark's name)
        """Remember which run reads which topic: idle events name the run only."""
        topic = self._topics[str(event.runId)] = event.name or ""
        RUNNING.labels(topic).set_function(lambda: float(self.is_running(topic)))

    def is_running(self, topic: str) -> bool:
        """Whether the stream has lately finished a batch, or found that there is nothing to do.

        For either it must reach Kafka and its checkpoint; so a stream that is only quiet is running, and one that hangs
        or has not begun is not.
        """
        last_sign = self._last_sign.get(topic)
        return last_sign is not None and time.monotonic() - last_sign < STUCK_SECONDS

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802 (Spark's name)
        """Publish the progress of one batch."""
        progress = event.progress
        topic = progress.name or ""
        self._last_sign[topic] = time.monotonic()
        LAST_COMMIT.labels(topic).set(time.time())
        INPUT_RATE.labels(topic).set(_number(progress.inputRowsPerSecond))
        PROCESSING_RATE.labels(topic).set(_number(progress.processedRowsPerSecond))
        BATCH_SECONDS.labels(topic).set(progress.durationMs.get("triggerExecution", 0) / 1000)
        for source in progress.sources:
            end = json.loads(source.endOffset)
            LAG.labels(topic).set(messages_between(end, json.loads(source.latestOffset)))
            self._commit(end)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802 (Spark's name)
        """Nothing arrived: Bronze is as fresh as it can be."""
        if topic := self._topics.get(str(event.runId)):
            self._last_sign[topic] = time.monotonic()
            LAG.labels(topic).set(0)

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802 (Spark's name)
        """No longer running; the main program ends with the query's error."""
        self._last_sign.pop(self._topics.get(str(event.runId), ""), None)

    def _commit(self, end_offsets: dict[str, dict[str, int]]) -> None:
        offsets = [
            TopicPartition(topic, int(partition), offset)
            for topic, partitions in end_offsets.items()
            for partition, offset in partitions.items()
        ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # only the lag that tools show is late
            log.warning("the group's offsets could not be committed: %s", error)


def messages_between(start: dict[str, dict[str, int]], end: dict[str, dict[str, int]]) -> int:
    """How many messages lie between two positions, each topic -> partition -> offset as Spark writes them."""
    return sum(
        offset - start.get(topic, {}).get(partition, 0)
        for topic, partitions in end.items()
        for partition, offset in partitions.items()
    )


def _number(value: float) -> float:
    return value if value == value else 0.0  # Spark reports NaN for the first batch

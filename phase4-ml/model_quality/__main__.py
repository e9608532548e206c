"""Stores labels beside the predictions that they confirm or refute, and counts both for Prometheus.

python -m model_quality

Upstream are transactions.labels and the scores in Postgres; downstream are Prometheus and the dashboards. Offsets are
committed after Postgres has the labels, and a label that is read twice changes nothing.
"""

import threading
import time
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message
from fraud_common.avro import Decoder
from fraud_common.errors import SerializationError
from fraud_common.kafka import kafka_errors, make_group_consumer, readable, require_topics, wait_for_broker
from fraud_common.payments import label_violations
from fraud_common.postgres import PatientConnection
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.service import ServiceSettings, run_service
from fraud_common.settings import KafkaSettings, PostgresSettings, SchemaRegistrySettings
from fraud_common.topics import LABELS
from prometheus_client import Counter, Gauge, Histogram
from pydantic import Field

from model_quality import counts, kept, store

DAY = 86_400.0

# `settled`: whether labels have matured. `role`: production, or staging in shadow. Dashboards query these names.
COUNTED = ["role", "model_version", "risk_tier", "settled"]
PAYMENTS = Gauge("fraud_quality_payments", "Payments of the last 44 days, of event time, by their tier", COUNTED)
FRAUDS = Gauge("fraud_quality_known_frauds", "Those of them that are known to be fraud by now", COUNTED)
# Of the last ten weeks of event time; `week` is its Monday.
OF_WEEK = ["role", "model_version", "week", "settled"]
WEEK = {
    "payments": Gauge("fraud_quality_week_payments", "Scored payments of the week", OF_WEEK),
    "known_frauds": Gauge("fraud_quality_week_known_frauds", "Those that are known to be fraud by now", OF_WEEK),
    "precision": Gauge("fraud_quality_week_precision", "Share of tier high that is known fraud", OF_WEEK),
    "recall": Gauge("fraud_quality_week_recall", "Share of the known frauds that tier high has", OF_WEEK),
    "average_precision": Gauge("fraud_quality_week_average_precision", "Average precision of the scores", OF_WEEK),
    "mean_score": Gauge("fraud_quality_week_mean_score", "Mean fraud probability", OF_WEEK),
    "fraud_rate": Gauge("fraud_quality_week_fraud_rate", "Share of known frauds, which the mean should equal", OF_WEEK),
    "calibration_error": Gauge("fraud_quality_week_calibration_error", "Expected calibration error", OF_WEEK),
}
LABELS_READ = Counter("fraud_labels", "Labels that have arrived", ["is_fraud"])
DELAY = Histogram(
    "fraud_label_delay_seconds",
    "From a payment to its label, in event time",
    buckets=[days * DAY for days in (0.25, 0.5, 1, 2, 4, 7, 10, 14, 21, 30)],
)
SKIPPED = Counter("fraud_labels_skipped", "Labels that Bronze refuses, so that nothing counts them")
SIZE = Gauge("fraud_database_bytes", "Size of a table of the fraud database with its indexes", ["table"])
OVERDUE = Gauge(
    "fraud_database_overdue_days", "For how many days the oldest rows should have been archived and dropped", ["table"]
)
RUNNING = Gauge("model_quality_running", "1 while Postgres takes labels and counts them")
BEHIND = Gauge("model_quality_scores_behind", "1 while there are stored scores that are not counted yet")


class Settings(ServiceSettings, KafkaSettings, SchemaRegistrySettings, PostgresSettings):
    """Which labels it reads, and how often it counts."""

    labels_topic: str = LABELS
    model_quality_group: str = "model-quality"
    count_seconds: float = Field(default=15.0, gt=0)
    predictions_retention_days: int = Field(default=30, ge=1)
    metrics_port: int = Field(default=9406, ge=0, le=65535)


def run(settings: Settings, stop: threading.Event) -> None:
    """Store labels and count, until SIGTERM.

    Raises:
        UserError: no broker answers, or the topic is missing.
        Stopping: SIGTERM came while Postgres or the registry did not answer.
    """
    require_topics(wait_for_broker(settings), settings.labels_topic)
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    # A new group begins with the labels before it: they may be those of payments that were scored.
    earliest = {"auto.offset.reset": "earliest"}
    consumer = make_group_consumer(settings, settings.model_quality_group, **earliest)
    postgres = PatientConnection(lambda: store.open_connection(settings), stop, RUNNING.set)
    publish_at = 0.0
    try:
        with kafka_errors():
            consumer.subscribe([settings.labels_topic])
            more = False
            while not stop.is_set():
                # With a backlog of either, the other has its turn after each batch.
                if batch := readable(consumer.consume(1000, 0.0 if more else 1.0)):
                    if labels := decode(batch, decoder, stop):
                        postgres.until_answered(store.store_labels, labels)
                    consumer.commit(asynchronous=True)
                    count_labels(labels)
                more = postgres.until_answered(counts.count_scores)
                BEHIND.set(more)
                if (started := time.monotonic()) >= publish_at:
                    set_tier_gauges(postgres.until_answered(counts.tiers))
                    set_week_gauges(postgres.until_answered(counts.weeks))
                    set_kept_gauges(postgres.until_answered(kept.kept), settings.predictions_retention_days)
                    # Where this takes long, as on a busy Postgres, labels and scores have nine tenths of the time.
                    ended = time.monotonic()
                    publish_at = ended + max(settings.count_seconds, 9 * (ended - started))
    finally:
        RUNNING.set(0)
        consumer.close()


def decode(batch: list[Message], decoder: Decoder, stop: threading.Event) -> list[dict[str, Any]]:
    """The labels of a batch; those that Bronze refuses are left out, and counted.

    Raises:
        Stopping: SIGTERM came while the registry did not answer.
    """
    labels = []
    for message in batch:
        _, arrived_ms = message.timestamp()
        try:
            record = decoder.decode_when_answered(message.value(), stop)
        except SerializationError:
            SKIPPED.inc()
            continue
        if label_violations(record, datetime.fromtimestamp(arrived_ms / 1000, UTC)):
            SKIPPED.inc()
        else:
            labels.append(record)
    return labels


def count_labels(labels: list[dict[str, Any]]) -> None:
    """Count labels that are stored, and how late they were."""
    for label in labels:
        LABELS_READ.labels(str(label["is_fraud"]).lower()).inc()
        DELAY.observe(store.delay_seconds(label))


def set_tier_gauges(quality: list[counts.TierQuality]) -> None:
    """Set both gauges of every combination, so that a share of no payments is 0."""
    PAYMENTS.clear()
    FRAUDS.clear()
    for each in quality:
        combination = (each.role, each.model_version, each.risk_tier, str(each.matured).lower())
        PAYMENTS.labels(*combination).set(each.payments)
        FRAUDS.labels(*combination).set(each.known_frauds)


def set_kept_gauges(tables: list[kept.Kept], keep_days: int) -> None:
    """Set the gauges of what the database keeps."""
    today = datetime.now(UTC).date()
    for each in tables:
        SIZE.labels(each.table).set(each.size)
        OVERDUE.labels(each.table).set(each.overdue_days(today, keep_days))


def set_week_gauges(quality: list[counts.WeekQuality]) -> None:
    """Set the gauges of every week; what is not known yet has none."""
    for name, gauge in WEEK.items():
        gauge.clear()
        for each in quality:
            if (value := getattr(each, name)) is not None:
                gauge.labels(each.role, each.model_version, str(each.week), str(each.matured).lower()).set(value)


if __name__ == "__main__":
    run_service(Settings, run)

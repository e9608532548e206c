"""Live quality of the model: labels from Kafka, beside the predictions that they judge, and counts for Prometheus.

python -m model_quality

Upstream are transactions.labels and the API's tables in Postgres; downstream are Prometheus and the dashboards.
Offsets are committed after Postgres has the labels, and a label that comes twice changes nothing.
"""

import logging
import threading
import time
from typing import Any

import psycopg2
from confluent_kafka import Consumer, Message
from feature_store.records import RuleViolation, to_label
from fraud_common.avro import SerializationError
from fraud_common.errors import Stopping
from fraud_common.kafka import CONSUMER, readable, wait_for_topics
from fraud_common.schema_registry import Decoder, Registry
from fraud_common.service import ServiceSettings, run_service
from prometheus_client import Counter, Gauge, Histogram
from psycopg2.extensions import connection as Connection
from pydantic import Field

from model_quality import store as quality_store

log = logging.getLogger("model-quality")

DAY = 86_400.0
SECONDS_BETWEEN_TRIALS = 2.0
SECONDS_BETWEEN_LINES = 60.0

COUNTED = ["model_version", "risk_tier", "settled"]
PAYMENTS = Gauge("fraud_quality_payments", "Payments of the last 44 days, of event time, by the tier they got", COUNTED)
FRAUDS = Gauge("fraud_quality_known_frauds", "Those of them that are known to be fraud by now", COUNTED)
LABELS = Counter("fraud_labels", "Labels that have arrived", ["is_fraud"])
DELAY = Histogram(
    "fraud_label_delay_seconds",
    "From a payment to its label, in event time",
    buckets=[days * DAY for days in (0.25, 0.5, 1, 2, 4, 7, 10, 14, 21, 30)],
)
SKIPPED = Counter("fraud_labels_skipped", "Labels that Bronze refuses, so that nothing counts them")
RUNNING = Gauge("model_quality_running", "1 while Postgres takes labels and says what they are worth")


class Settings(ServiceSettings):
    """One typed value for each setting; the environment variable has the field's name in capitals."""

    labels_topic: str = "transactions.labels"
    model_quality_group: str = "model-quality"
    postgres_host: str = "postgres"
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    fraud_db_password: str = ""
    metrics_port: int = Field(default=9406, ge=0, le=65535)
    count_seconds: float = Field(default=15.0, gt=0)


def watch(settings: Settings, stop: threading.Event) -> None:
    """Take labels and count, until SIGTERM.

    Raises:
        ServiceError: no broker answers, or the topic is missing.
        Stopping: SIGTERM came while a neighbour was away.
    """
    wait_for_topics(settings.kafka_bootstrap_servers, [settings.labels_topic], settings.connect_timeout_seconds)
    decoder = Decoder(Registry(settings.schema_registry_url))
    options = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": settings.model_quality_group}
    # A new group begins with what was known before it: labels of payments that may have been scored.
    consumer = Consumer({**CONSUMER, **options, "auto.offset.reset": "earliest"}, logger=logging.getLogger("kafka"))
    postgres = Postgres(settings, stop)
    counted = -settings.count_seconds
    try:
        consumer.subscribe([settings.labels_topic])
        while not stop.is_set():
            if batch := readable(consumer.consume(1000, 1.0)):
                if labels := decode(batch, decoder, stop):
                    postgres.until_it_works(quality_store.store, labels)
                consumer.commit(asynchronous=True)
                for label in labels:
                    LABELS.labels(str(label["is_fraud"]).lower()).inc()
                    DELAY.observe(quality_store.label_age(label))
            if time.monotonic() - counted >= settings.count_seconds:
                tell(postgres.until_it_works(quality_store.count))
                counted = time.monotonic()
    finally:
        RUNNING.set(0)
        consumer.close()


def decode(batch: list[Message], decoder: Decoder, stop: threading.Event) -> list[dict[str, Any]]:
    """The labels of a batch; those that Bronze refuses are left out, and counted."""
    labels = []
    for message in batch:
        try:
            record = decoder.decode_when_answered(message.value(), stop)
            to_label(record, message.timestamp()[1])
            labels.append(record)
        except (RuleViolation, SerializationError, AttributeError, TypeError, ValueError):
            SKIPPED.inc()
    return labels


def tell(found: list[quality_store.Quality]) -> None:
    """Set the gauges: both of every combination, so that a share of nothing yet is 0."""
    PAYMENTS.clear()
    FRAUDS.clear()
    for each in found:
        place = (each.model_version, each.risk_tier, str(each.settled).lower())
        PAYMENTS.labels(*place).set(each.payments)
        FRAUDS.labels(*place).set(each.known_frauds)


class Postgres:
    """A connection that is made anew when it breaks; labels wait in Kafka meanwhile."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._connection: Connection | None = None

    def until_it_works(self, ask: Any, *arguments: Any) -> Any:
        """What `ask(connection, *arguments)` gives, as soon as Postgres answers.

        Raises:
            Stopping: SIGTERM came first.
        """
        told_at = -SECONDS_BETWEEN_LINES
        while True:
            try:
                if self._connection is None:
                    settings = self._settings
                    self._connection = quality_store.connect(
                        settings.postgres_host, settings.postgres_port, settings.fraud_db_password
                    )
                result = ask(self._connection, *arguments)
                RUNNING.set(1)
                return result
            except psycopg2.Error as error:
                RUNNING.set(0)
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
                if time.monotonic() - told_at >= SECONDS_BETWEEN_LINES:
                    told_at = time.monotonic()
                    log.warning("postgres: %s; labels wait in Kafka until it answers", str(error).strip())
                if self._stop.wait(SECONDS_BETWEEN_TRIALS):
                    raise Stopping(str(error)) from None


if __name__ == "__main__":
    run_service(Settings, watch)

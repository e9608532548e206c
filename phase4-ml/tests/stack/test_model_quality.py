"""Live quality: labels through the real Kafka into the real Postgres, beside the predictions of their payments."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg2
import pytest
from audit.prediction_log import PredictionLog
from fraud_common.settings import PostgresSettings
from fraud_common.topics import LABELS
from kafka_tools import KAFKA, REGISTRY, encoder_of, own_topics
from model_quality import store
from predictions import line
from prometheus_client.parser import text_string_to_metric_families
from serving.settings import Settings
from serving_stack import POSTGRES_HOST, select, wait_until

PORT = 19406
NEWEST = datetime(2024, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def version() -> str:
    """A model version of this test alone."""
    return f"quality-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def only_these_labels() -> None:
    """The clock is the newest label of all; those of other tests would move it."""
    connection = store.open_connection(PostgresSettings(postgres_host=POSTGRES_HOST))
    with connection, connection.cursor() as cursor:
        cursor.execute("truncate labels")
    connection.close()


def label(
    transaction_id: str, age_days: float, *, is_fraud: bool = True, reported: datetime = NEWEST
) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "user_id": "u",
        "is_fraud": is_fraud,
        "fraud_type": "card_testing" if is_fraud else None,
        "event_time": NEWEST - timedelta(days=age_days),
        "reported_at": reported,
    }


def predict(log: PredictionLog, version: str, predictions: dict[str, tuple[str, float]]) -> None:
    """Store predictions: transaction -> (tier, age in days)."""
    before = stored(version)
    for name, (tier, age) in predictions.items():
        moment = (NEWEST - timedelta(days=age)).isoformat()
        log.append(
            line(
                name,
                risk_tier=tier,
                model_version=version,
                event_time=moment,
                predicted_at=moment,
                fraud_probability=0.5,
            ),
            1,
        )
    wait_until(lambda: stored(version) == before + len(predictions), "Postgres has the predictions")


def stored(version: str) -> int:
    try:
        return select("select count(*) from predictions where model_version = %s", version)[0][0]
    except psycopg2.errors.UndefinedTable:  # made with the first prediction
        return 0


@pytest.fixture
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionLog]:
    log = PredictionLog(Settings(state_dir=tmp_path_factory.mktemp("log")))
    log.start()
    yield log
    log.close()


@contextmanager
def watching(topic: str) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": KAFKA,
        "SCHEMA_REGISTRY_URL": REGISTRY,
        "LABELS_TOPIC": topic,
        "MODEL_QUALITY_GROUP": f"{topic}-quality",
        "METRICS_PORT": str(PORT),
        "COUNT_SECONDS": "0.5",
    }
    process = subprocess.Popen([sys.executable, "-m", "model_quality"], env=os.environ | settings)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGKILL)


def counted(version: str) -> dict[tuple[str, str], tuple[float, float]]:
    """(tier, settled) -> (payments, known frauds), as Prometheus would read them."""
    try:
        text = httpx2.get(f"http://localhost:{PORT}/metrics", timeout=5).text
    except httpx2.HTTPError:
        return {}
    found: dict[str, dict[tuple[str, str], float]] = {"fraud_quality_payments": {}, "fraud_quality_known_frauds": {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name in found else []:
            if sample.labels["model_version"] == version:
                found[family.name][sample.labels["risk_tier"], sample.labels["settled"]] = sample.value
    return {
        combination: (payments, found["fraud_quality_known_frauds"][combination])
        for combination, payments in found["fraud_quality_payments"].items()
    }


def test_labels_are_counted_beside_the_scores_of_the_model(
    predictions: PredictionLog, version: str, only_these_labels: None
) -> None:
    encoder = encoder_of(LABELS)

    def as_messages(*labels: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        return [(each["user_id"].encode(), encoder.encode(each)) for each in labels]

    name = uuid.uuid4().hex
    predict(
        predictions,
        version,
        {
            f"{name}-caught": ("high", 1),
            f"{name}-cleared": ("high", 1),
            f"{name}-open": ("high", 2),
            f"{name}-missed": ("low", 3),
            f"{name}-matured": ("high", 20),
            f"{name}-too-old": ("high", 60),
        },
    )
    with own_topics() as topics:
        topic = topics.raw
        with watching(topic):
            topics.send(
                [
                    *as_messages(
                        label(f"{name}-caught", 1),
                        label(f"{name}-cleared", 1, reported=NEWEST - timedelta(hours=1)),
                        label(f"{name}-missed", 3),
                        label(f"{name}-matured", 20),
                        label(f"{name}-too-old", 60),
                        label(f"{name}-never-scored", 1),
                    ),
                    (b"u", b"garbage"),
                ]
            )
            wait_until(
                lambda: (
                    counted(version) == {("high", "false"): (3, 2), ("low", "false"): (1, 1), ("high", "true"): (1, 1)}
                ),
                "counted",
            )
            # A dispute that turns out to be legitimate; an older label that is read again changes nothing.
            topics.send(
                as_messages(
                    label(f"{name}-cleared", 1, is_fraud=False),
                    label(f"{name}-caught", 1, is_fraud=False, reported=NEWEST - timedelta(hours=2)),
                )
            )
            wait_until(lambda: counted(version).get(("high", "false")) == (3, 1), "the revised label counts")
        # After kill -9 the counts are the same, and a prediction that comes late counts.
        with watching(topic) as process:
            wait_until(lambda: counted(version), "counts again")
            process.kill()
            process.wait(10)
        predict(predictions, version, {f"{name}-never-scored": ("medium", 1)})
        with watching(topic):
            wait_until(lambda: counted(version).get(("medium", "false")) == (1, 1), "the late prediction counts")
            assert counted(version)[("high", "false")] == (3, 1)


def test_payments_are_counted_once_whatever_is_stored_twice(predictions: PredictionLog, version: str) -> None:
    row = line("twice", model_version=version, risk_tier="low", event_time=NEWEST.isoformat())
    predictions.append(row, 1)
    wait_until(lambda: stored(version) == 1, "stored")
    predictions.append(row, 1)
    predictions.append(line("other", model_version=version, risk_tier="low", event_time=NEWEST.isoformat()), 1)
    wait_until(lambda: stored(version) == 2, "stored")
    assert select("select risk_tier, payments from prediction_days where model_version = %s", version) == [("low", 2)]

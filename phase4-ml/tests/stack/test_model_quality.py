"""Live quality: labels through the real Kafka into the real Postgres, counted with the scores of their payments."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import numpy as np
import pytest
from audit.positions import stored_until
from audit.prediction_log import PredictionLog
from audit.sink import INSERT
from fraud_common.days import create_days
from fraud_common.settings import PostgresSettings
from fraud_common.topics import LABELS
from kafka_tools import KAFKA, REGISTRY, encoder_of, own_topics
from model_quality import counts, kept, store
from predictions import line
from prometheus_client.parser import text_string_to_metric_families
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values
from serving.settings import Settings
from serving_stack import POSTGRES_HOST, select, wait_until
from sklearn.metrics import average_precision_score

PORT = 19406
NEWEST = datetime(2024, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def version() -> str:
    """A model version of this test alone."""
    return f"quality-{uuid.uuid4().hex[:8]}"


def connect() -> Connection:
    return store.open_connection(PostgresSettings(postgres_host=POSTGRES_HOST))


@pytest.fixture
def quality() -> Iterator[Connection]:
    """A connection to counts without other labels, since the clock is the newest label of all."""
    connection = connect()
    with connection, connection.cursor() as cursor:
        # Of the rows that the tests insert themselves.
        create_days(cursor, [NEWEST.date(), datetime.now(UTC).date()], ["predictions", "prediction_reasons"])
        cursor.execute("truncate labels, quality_days; update quality_clock set newest_label = null")
        cursor.execute("update quality_cursors set position = (select coalesce(max(position), 0) from predictions)")
    yield connection
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
            )
        )
    wait_until(lambda: stored(version) == before + len(predictions), "Postgres has the predictions")


def stored(version: str) -> int:
    return select("select count(*) from predictions where model_version = %s", version)[0][0]


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
            if sample.labels["model_version"] == version and sample.labels["role"] == "production":
                found[family.name][sample.labels["risk_tier"], sample.labels["settled"]] = sample.value
    return {
        combination: (payments, found["fraud_quality_known_frauds"][combination])
        for combination, payments in found["fraud_quality_payments"].items()
    }


def test_labels_are_counted_beside_the_scores_of_the_model(
    predictions: PredictionLog, version: str, quality: Connection
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


def insert(connection: Connection, *lines: bytes) -> None:
    """Store predictions as the API's workers do; without a commit."""
    with connection.cursor() as cursor:
        cursor.execute(INSERT, (f"[{b','.join(lines).decode()}]",))


def scored(name: str, version: str, **changes: Any) -> bytes:
    row = {"model_version": version, "risk_tier": "high", "event_time": NEWEST.isoformat(), "fraud_probability": 0.5}
    return line(f"{name} of {version}", **row | changes)


def said(name: str, version: str, age_days: float = 0, **changes: Any) -> dict[str, Any]:
    """The label of that payment."""
    return label(f"{name} of {version}", age_days, **changes)


def count_all(connection: Connection) -> None:
    while counts.count_scores(connection):
        pass


def tier_counts(connection: Connection, version: str) -> dict[str, tuple[int, int]]:
    """Tier -> (payments, known frauds)."""
    return {
        each.risk_tier: (each.payments, each.known_frauds)
        for each in counts.tiers(connection)
        if each.model_version == version
    }


def test_a_label_counts_however_long_before_its_prediction_it_is_stored(quality: Connection, version: str) -> None:
    """Case F5."""
    store.store_labels(quality, [said("early", version), said("early, legitimate", version, is_fraud=False)])
    with quality, quality.cursor() as cursor:
        cursor.execute("update labels set stored_at = stored_at - interval '30 days'")
    count_all(quality)
    with quality:
        insert(quality, scored("early", version), scored("early, legitimate", version))
    count_all(quality)
    assert tier_counts(quality, version) == {"high": (2, 1)}
    assert all(each.size > 0 for each in kept.kept(quality) if each.table in ("predictions", "labels"))


def test_a_revised_label_is_counted_once_whenever_it_comes(quality: Connection, version: str) -> None:
    later = NEWEST + timedelta(hours=1)
    store.store_labels(quality, [said("cleared before", version)])
    store.store_labels(quality, [said("cleared before", version, is_fraud=False, reported=later)])
    with quality:
        insert(quality, *(scored(name, version) for name in ("cleared before", "cleared after", "found after")))
    count_all(quality)
    first = [said("cleared after", version), said("found after", version, is_fraud=False)]
    store.store_labels(quality, first)
    assert tier_counts(quality, version) == {"high": (3, 1)}
    revised = [
        said("cleared after", version, is_fraud=False, reported=later),
        said("found after", version, reported=later),
    ]
    # What is read again after a crash changes nothing.
    for labels in (revised, first, revised):
        store.store_labels(quality, labels)
        assert tier_counts(quality, version) == {"high": (3, 1)}


def test_the_first_prediction_of_a_payment_counts(quality: Connection, version: str) -> None:
    """Case F6: whether the second is stored with the first, later, or at the same time by another worker."""
    with quality:
        insert(quality, scored("twice", version), scored("twice", version, risk_tier="low"))
    count_all(quality)
    with quality:
        insert(quality, scored("twice", version, risk_tier="medium"))
    count_all(quality)
    store.store_labels(quality, [said("twice", version)])
    assert tier_counts(quality, version) == {"high": (1, 1)}

    one, other = connect(), connect()
    insert(one, scored("by both", version, risk_tier="low"))
    insert(other, scored("by both", version, risk_tier="medium"))
    other.commit()
    one.commit()
    count_all(quality)
    store.store_labels(quality, [said("by both", version)])
    assert tier_counts(quality, version) == {"high": (1, 1), "low": (1, 1)}
    for connection in (one, other):
        connection.close()


def test_a_row_that_is_still_being_stored_is_not_passed_over(quality: Connection, version: str) -> None:
    """Its position is lower than that of a row which is there already."""
    slow, fast, reader = connect(), connect(), connect()
    insert(slow, scored("slow", version))
    with fast:
        insert(fast, scored("fast", version))
    (newest,) = select("select position from predictions where model_version = %s", version)[0]
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.append(stored_until(reader)))
    asking.start()
    waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
    wait_until(lambda: select(waiting), "the reader waits for it")
    slow.commit()
    asking.join(10)
    assert found == [newest]
    count_all(quality)
    store.store_labels(quality, [said("slow", version)])
    assert tier_counts(quality, version) == {"high": (2, 1)}
    for connection in (slow, fast, reader):
        connection.close()


@pytest.mark.parametrize("skew", [1.0, 3.0], ids=["calibrated", "too high"])
def test_the_numbers_of_a_week_are_those_of_its_payments(quality: Connection, version: str, skew: float) -> None:
    """By bins of scores, against all scores: average precision to 0.003, the calibration error to a tenth."""
    random = np.random.default_rng(7)
    true_odds = np.exp(random.normal(-5.5, 1.8, 20_000))
    rate = true_odds / (1 + true_odds)
    is_fraud = random.random(len(rate)) < rate
    score = np.round(skew * true_odds / (1 + skew * true_odds), 6)
    tier = np.where(score >= 0.3, "high", "low")
    # Both ends of a week that has not matured at NEWEST.
    monday = datetime(2024, 11, 18, tzinfo=UTC)
    names = [f"{version}-{number}" for number in range(len(score))]
    rows = [
        (name, float(each), str(of), version, monday + timedelta(days=6 * (number % 2), hours=23 * (number % 2)))
        for number, (name, each, of) in enumerate(zip(names, score, tier, strict=True))
    ]
    template = "(gen_random_uuid(), %s, 'u', 'm', 1, false, %s, %s, %s, 'stream', '{}', 1, %s, now())"
    columns = (
        "prediction_id, transaction_id, user_id, merchant_id, amount, is_international, fraud_probability, risk_tier, "
        "model_version, feature_source, features, latency_ms, event_time, predicted_at"
    )
    with quality, quality.cursor() as cursor:
        execute_values(cursor, f"insert into predictions ({columns}) values %s", rows, template, page_size=5000)
    # Half of the labels come before the scores are counted, half after.
    frauds = [label(name, 8) for name, known in zip(names, is_fraud, strict=True) if known]
    store.store_labels(quality, frauds[::2])
    count_all(quality)
    store.store_labels(quality, frauds[1::2])

    (week,) = [each for each in counts.weeks(quality) if each.model_version == version]
    assert (week.week, week.role, week.matured) == (monday.date(), "production", False)
    assert (week.payments, week.known_frauds) == (len(score), is_fraud.sum())
    assert week.precision == pytest.approx(is_fraud[score >= 0.3].mean())
    assert week.recall == pytest.approx((score[is_fraud] >= 0.3).mean())
    assert week.average_precision == pytest.approx(average_precision_score(is_fraud, score), abs=0.003)
    assert week.mean_score == pytest.approx(score.mean())
    assert week.fraud_rate == pytest.approx(is_fraud.mean())
    groups = np.array_split(np.argsort(score, kind="stable"), counts.GROUPS)
    exact = sum(len(group) * abs(score[group].mean() - is_fraud[group].mean()) for group in groups) / len(score)
    assert week.calibration_error == pytest.approx(exact, rel=0.1)
    # Two weeks after its last day it has matured.
    store.store_labels(quality, [said("the next", version, reported=monday + timedelta(days=20))])
    assert [each.matured for each in counts.weeks(quality) if each.model_version == version] == [True]

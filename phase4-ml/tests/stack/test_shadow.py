"""Staging in shadow: from the real MLflow and the real Postgres, killed and started again, and counted with labels."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from audit.sink import INSERT, PARTITIONED
from example_model import publish
from features import FEATURES
from fraud_common.days import create_days
from fraud_common.models import MODEL_NAME, STAGING_ALIAS
from fraud_common.settings import PostgresSettings
from model_quality import counts
from model_quality import store as quality_store
from predictions import line
from psycopg2.extensions import connection as Connection
from serving_stack import MLFLOW_URL, POSTGRES_HOST, select, wait_until

NEWEST = datetime(2024, 11, 29, 12, tzinfo=UTC)
# Of the example model: a large amount, the first of all features.
FEATURES_OF_A_FRAUD = dict.fromkeys(FEATURES, 20.0) | {FEATURES[0]: 5000.0}


@contextmanager
def shadow(state_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = {"MODEL_POLL_SECONDS": "0.3", "METRICS_PORT": "19407", "STATE_DIR": str(state_dir)}
    settings |= {"POSTGRES_HOST": POSTGRES_HOST, "MLFLOW_TRACKING_URI": MLFLOW_URL}
    process = subprocess.Popen([sys.executable, "-m", "shadow"], env=os.environ | settings)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGKILL)


def metric(name: str) -> float:
    try:
        text = httpx2.get("http://localhost:19407/metrics", timeout=5).text
    except httpx2.HTTPError:
        return -1
    return next(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(f"{name} "))


def wait_for(version: str | None) -> None:
    """Until this version scores what is stored from now on, or none does."""
    wait_until(lambda: select("select model_version from shadow_cursor") == [(version,)], f"{version} in shadow")


def leave_staging() -> None:
    alias = {"name": MODEL_NAME, "alias": STAGING_ALIAS}
    httpx2.request("DELETE", f"{MLFLOW_URL}/api/2.0/mlflow/registered-models/alias", json=alias, timeout=30)


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection to counts without other labels, since the clock is the newest label of all."""
    connection = quality_store.open_connection(PostgresSettings(postgres_host=POSTGRES_HOST))
    with connection, connection.cursor() as cursor:
        cursor.execute("truncate labels, quality_days; update quality_clock set newest_label = null")
    leave_staging()
    yield connection
    leave_staging()
    connection.close()


def test_staging_scores_what_is_stored_and_both_are_counted(
    connection: Connection, example_files: tuple[bytes, dict[str, Any]], tmp_path: Path
) -> None:
    run = uuid.uuid4().hex[:8]
    # With tiers by which the payments below are high.
    onnx, described = example_files[0], example_files[1] | {"thresholds": {"medium": 0.1, "high": 0.2}}

    def predict(*names: str, features: dict[str, float] = FEATURES_OF_A_FRAUD) -> None:
        """Production found nothing in these payments."""
        production = {"model_version": run, "risk_tier": "low", "fraud_probability": 0.01, "features": features}
        rows = [line(f"{run} {name}", event_time=NEWEST.isoformat(), **production) for name in names]
        with connection, connection.cursor() as cursor:
            create_days(cursor, [NEWEST.date()], PARTITIONED)
            cursor.execute(INSERT, (f"[{b','.join(rows).decode()}]",))

    def scored() -> list[tuple[str, str]]:
        found = "select transaction_id, model_version from shadow_predictions where transaction_id like %s order by 1"
        return [(name.removeprefix(f"{run} "), version) for name, version in select(found, f"{run} %")]

    with shadow(tmp_path) as process:
        wait_until(lambda: metric("shadow_running") == 1 or metric("shadow_model_registry_reached") == 1, "it runs")
        predict("before")
        version = publish(MLFLOW_URL, onnx, described, alias=STAGING_ALIAS)
        wait_for(version)
        predict("lacking", features={FEATURES[0]: 1.0})
        predict("fraud", "legitimate")
        wait_until(lambda: len(scored()) == 2, "scored")
        assert metric('shadow_left_out_total{reason="feature"}') == 1
        process.kill()
        process.wait(10)
    predict("while it was down")
    with shadow(tmp_path):
        wait_until(lambda: len(scored()) == 3, "it continues where it was killed")
        # A newer version scores what is stored from then on.
        newer = publish(MLFLOW_URL, onnx, described, alias=STAGING_ALIAS)
        wait_for(newer)
        predict("by the newer")
        wait_until(lambda: len(scored()) == 4, "scored by the newer version")
        leave_staging()
        wait_for(None)
        predict("after")
    expected = {"by the newer": newer, "fraud": version, "legitimate": version, "while it was down": version}
    assert scored() == list(expected.items())

    while counts.count_scores(connection):
        pass
    matured = NEWEST + timedelta(days=30)
    label = {"user_id": "u", "is_fraud": True, "fraud_type": None, "event_time": NEWEST, "reported_at": matured}
    quality_store.store_labels(connection, [label | {"transaction_id": f"{run} fraud"}])
    weeks = {(each.role, each.model_version): each for each in counts.weeks(connection)}
    production, staging = weeks["production", run], weeks["staging", version]
    assert (production.payments, production.known_frauds, production.recall) == (7, 1, 0)
    assert (staging.payments, staging.known_frauds, staging.recall) == (3, 1, 1)
    assert production.matured and staging.matured

"""Explains the scores of tiers medium and high off the hot path, and answers the API's `?explain=true`.

python -m explainer

Upstream are the API's table `predictions` and the models in MLflow; downstream is the table `prediction_reasons`. Work
is taken from that table in chunks and marked as done with the reasons, so a kill at any time repeats at most a chunk.
"""

import logging
import threading
import time
from contextlib import closing
from functools import lru_cache

import psycopg2
from fraud_common.service import ServiceSettings, run_service
from fraud_common.settings import MlflowSettings, PostgresSettings
from psycopg2.extensions import connection as Connection
from pydantic import Field

from explainer import metrics, store
from explainer.attribution import UnexplainedError
from explainer.endpoint import served
from explainer.explain import explain
from explainer.registry import Models, Unavailable

log = logging.getLogger("explainer")

# So many are explained before they are stored: a second's work.
CHUNK = 25
SECONDS_BETWEEN_ATTEMPTS = 2.0
SECONDS_BETWEEN_WARNINGS = 60.0


class Settings(ServiceSettings, PostgresSettings, MlflowSettings):
    """How often it looks for work, and where it answers."""

    explainer_poll_seconds: float = Field(default=1.0, gt=0)
    explainer_port: int = Field(default=8001, ge=1, le=65535)
    metrics_port: int = Field(default=9408, ge=0, le=65535)


def run(settings: Settings, stop: threading.Event) -> None:
    """Explain, until SIGTERM."""
    models = Models(settings.mlflow_tracking_uri)
    with served(models, settings.explainer_port):
        warned_at = -SECONDS_BETWEEN_WARNINGS
        while not stop.is_set():
            try:
                with closing(store.open_connection(settings)) as connection:
                    follow(settings, connection, models, stop)
            except (psycopg2.Error, Unavailable) as error:
                metrics.RUNNING.set(0)
                metrics.ERRORS.labels("mlflow" if isinstance(error, Unavailable) else "postgres").inc()
                if time.monotonic() - warned_at >= SECONDS_BETWEEN_WARNINGS:
                    warned_at = time.monotonic()
                    log.warning("%s; predictions wait for their reasons until it answers", str(error).strip())
                stop.wait(SECONDS_BETWEEN_ATTEMPTS)
    metrics.RUNNING.set(0)


def follow(settings: Settings, connection: Connection, models: Models, stop: threading.Event) -> None:
    """Explain what waits, and look for more.

    Raises:
        psycopg2.Error: Postgres does not answer.
        Unavailable: the registry does not answer.
    """
    while not stop.is_set():
        metrics.BACKLOG_AGE.set(store.backlog_age(connection))
        found = explain_waiting(connection, models, stop)
        metrics.RUNNING.set(1)
        if not found:
            stop.wait(settings.explainer_poll_seconds)


def explain_waiting(connection: Connection, models: Models, stop: threading.Event) -> int:
    """Explain a chunk of what waits and store it; what was explained before a failure is stored, too.

    Returns:
        how many waited, at most CHUNK.
    """
    chunk = store.waiting(connection, CHUNK)
    done: list[store.Explained] = []
    try:
        # By version, so that a chunk of many versions loads each model once.
        for each in sorted(chunk, key=lambda each: each.prediction.model_version):
            if stop.is_set():
                break
            done.append(explained(models, each))
    finally:
        store.store(connection, done)
        metrics.STORED.inc(len(done))
    return len(chunk)


def explained(models: Models, each: store.Waiting) -> store.Explained:
    """The reasons of a prediction that waits, or why there are none.

    Raises:
        Unavailable: the registry does not answer.
    """
    try:
        return store.Explained(each.prediction_id, each.predicted_at, explain(models, each.prediction))
    except UnexplainedError as error:
        metrics.UNEXPLAINED.inc()
        _log_once(str(error))
        return store.Explained(each.prediction_id, each.predicted_at, [], str(error))


@lru_cache(maxsize=100)
def _log_once(problem: str) -> None:
    """Log each problem once, since all predictions of a model may have it; the table has it for each of them."""
    log.error("scores have no reasons: %s", problem)


if __name__ == "__main__":
    run_service(Settings, run)

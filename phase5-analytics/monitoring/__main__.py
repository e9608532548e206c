"""Samples live payments and compares them with the model's reference until SIGTERM.

Upstream are Postgres (predictions) and MLflow (the reference), downstream is Prometheus.
"""

import logging
import threading
import time

from fraud_common.service import run_service
from prometheus_client import Gauge

from monitoring.settings import Settings
from monitoring.sources import Reference, Unavailable, newest_predictions, production_reference
from monitoring.window import Window, feature_drift, score_drift

log = logging.getLogger("drift")

SCORE = Gauge("fraud_score_drift_psi", "Population stability index of the scores against the model's holdout")
FEATURE = Gauge(
    "fraud_feature_drift_psi", "Population stability index of a feature of the model against the holdout", ["feature"]
)
ROWS = Gauge("fraud_drift_rows", "Payments in the sample that was compared last")
REFERENCE = Gauge("fraud_drift_reference_version", "Version of the model whose holdout is the reference; 0 is none")

COMPARE_SECONDS = 60.0


def watch(settings: Settings, stop: threading.Event) -> None:
    """Take a sample every few seconds and compare every minute; while a source is down, try again next time."""
    window = Window(settings.drift_window_minutes * 60)
    reference: Reference | None = None
    compared, logged = -COMPARE_SECONDS, ""
    while not stop.wait(settings.drift_sample_seconds):
        now = time.monotonic()
        try:
            window.add(newest_predictions(settings, settings.drift_sample_rows), now)
            if now - compared >= COMPARE_SECONDS:
                reference = production_reference(settings.mlflow_tracking_uri, reference)
                compare(window, reference, settings.drift_minimum_rows)
                compared = now
            problem = ""
        except Unavailable as reason:
            problem = str(reason)
        # Once per problem, not once per attempt.
        if problem and problem != logged:
            log.warning(problem)
        logged = problem


def compare(window: Window, reference: Reference | None, minimum: int) -> None:
    """Set the gauges; without a reference, or with too few payments, the drift is not a number."""
    SCORE.set(float("nan"))
    FEATURE.clear()
    REFERENCE.set(int(reference.version) if reference else 0)
    rows = window.of(reference.version) if reference else []
    ROWS.set(len(rows))
    if reference is None or len(rows) < minimum:
        return
    SCORE.set(score_drift(rows, reference))
    for name, moved in feature_drift(rows, reference).items():
        FEATURE.labels(name).set(moved)


if __name__ == "__main__":
    run_service(Settings, watch)

"""Samples live payments and compares them with the model's reference until SIGTERM; answers scrapes meanwhile.

Upstream are Postgres (predictions, Airflow's runs), MLflow (the reference) and the services that are asked whether they
work; downstream is Prometheus.
"""

import logging
import threading
import time

from fraud_common.service import run_service
from prometheus_client import REGISTRY, Gauge

from monitoring.airflow import airflow_metrics
from monitoring.certificate import certificate_metrics
from monitoring.disk import disk_metrics
from monitoring.drift import compare
from monitoring.live import LiveCollector
from monitoring.probes import probe_metrics, services
from monitoring.settings import Settings
from monitoring.sources import Reference, Unavailable, newest_predictions, production_reference
from monitoring.window import Window

log = logging.getLogger("drift")

SCORE = Gauge("fraud_score_drift_psi", "Population stability index of the scores against the model's holdout")
FEATURE = Gauge(
    "fraud_feature_drift_psi", "Population stability index of a feature of the model against the holdout", ["feature"]
)
TAIL = Gauge(
    "fraud_tail_ratio",
    "Share of the payments in the outermost bin of the score or of a feature, divided by the holdout's",
    ["of", "tail"],
)
MISSING = Gauge("fraud_feature_missing_ratio", "Share of the payments without a number for a feature", ["feature"])
ROWS = Gauge("fraud_drift_rows", "Payments in the sample that was compared last")
REFERENCE = Gauge("fraud_drift_reference_version", "Version of the model whose holdout is the reference; 0 is none")

COMPARE_SECONDS = 60.0


def run(settings: Settings, stop: threading.Event) -> None:
    """Answer scrapes, and watch drift until the event is set."""
    clear()
    REGISTRY.register(
        LiveCollector(
            [
                lambda: airflow_metrics(settings),
                lambda: probe_metrics(services(settings)),
                lambda: disk_metrics("/"),
                lambda: certificate_metrics(settings.tls_proxy),
            ]
        )
    )
    watch(settings, stop)


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
                show(window, reference, settings.drift_minimum_rows)
                compared = now
            problem = ""
        except Unavailable as reason:
            problem = str(reason)
            # What was compared last is not what is true now.
            if now - compared >= 2 * COMPARE_SECONDS:
                clear()
        # Once per problem, not once per attempt.
        if problem and problem != logged:
            log.warning(problem)
        logged = problem


def show(window: Window, reference: Reference | None, minimum: int) -> None:
    """Set the gauges; without a reference, or with too few payments, there is no drift."""
    rows = window.of(reference.version) if reference else []
    found = compare(rows, reference) if reference and len(rows) >= minimum else None
    clear()
    REFERENCE.set(int(reference.version) if reference else 0)
    ROWS.set(len(rows))
    if found is None:
        return
    score, features = found
    if score.index is not None:
        SCORE.set(score.index)
    for name, drift in features.items():
        MISSING.labels(name).set(drift.missing)
        if drift.index is not None:
            FEATURE.labels(name).set(drift.index)
    for name, drift in {"score": score, **features}.items():
        for tail, ratio in drift.tails.items():
            TAIL.labels(name, tail).set(ratio)


def clear() -> None:
    """No drift: not a number, which neither panels nor alerts take for a value."""
    SCORE.set(float("nan"))
    for gauge in (FEATURE, TAIL, MISSING):
        gauge.clear()
    ROWS.set(0)


if __name__ == "__main__":
    run_service(Settings, run)

"""Takes samples, compares, serves /metrics, until SIGTERM. Upstream are Postgres and MLflow, downstream Prometheus."""

import logging
import signal
import sys
import threading
import time

from fraud_common.logs import set_up_logging
from kafka_exporter.settings import SettingsError, load_settings
from prometheus_client import Gauge, start_http_server

from monitoring.settings import Settings
from monitoring.sources import Reference, Unavailable, newest_predictions, production_reference
from monitoring.window import Window, feature_drift, score_drift

log = logging.getLogger("drift")

SCORE = Gauge("fraud_score_drift_psi", "Population stability index of the scores against the model's holdout")
FEATURE = Gauge("fraud_feature_drift_psi", "The same of a feature of the model", ["feature"])
ROWS = Gauge("fraud_drift_rows", "Payments in the sample that was compared last")
REFERENCE = Gauge("fraud_drift_reference_version", "Version of the model whose holdout is the reference; 0 is none")

COMPARE_SECONDS = 60.0


def main() -> None:
    """Run until SIGTERM; a wrong setting is one line and exit code 2. A neighbour that is away is asked again."""
    set_up_logging()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings(Settings)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    start_http_server(settings.metrics_port)
    watch(settings, stop)


def watch(settings: Settings, stop: threading.Event) -> None:
    """Take a sample every few seconds, and compare every minute."""
    login = {
        "host": settings.postgres_host,
        "port": settings.postgres_port,
        "dbname": "fraud",
        "user": "fraud",
        "password": settings.fraud_db_password,
    }
    window = Window(settings.drift_window_minutes * 60)
    reference: Reference | None = None
    compared, trouble = -COMPARE_SECONDS, ""
    while not stop.wait(settings.drift_sample_seconds):
        now = time.monotonic()
        try:
            window.add(newest_predictions(login, settings.drift_sample_rows), now)
            if now - compared >= COMPARE_SECONDS:
                reference = production_reference(settings.mlflow_tracking_uri, reference)
                compare(window, reference, settings.drift_minimum_rows)
                compared = now
            problem = ""
        except Unavailable as reason:
            problem = str(reason)
        # Once, not at every attempt.
        if problem and problem != trouble:
            log.warning(problem)
        trouble = problem


def compare(window: Window, reference: Reference | None, minimum: int) -> None:
    """Set the gauges; without a reference, or with too few payments, there is nothing to say."""
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
    main()

"""What is asked at each scrape: Airflow's database, services without metrics, the disk. No answer is a metric, too."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from monitoring.airflow import Dag, airflow_metrics, families
from monitoring.disk import disk_metrics
from monitoring.live import LiveCollector
from monitoring.probes import probe_metrics, services
from monitoring.settings import Settings
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric


def registry(*metrics: Metric) -> CollectorRegistry:
    result = CollectorRegistry()
    result.register(LiveCollector([lambda metric=metric: [metric] for metric in metrics]))
    return result


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A service whose /works works, and whose other pages don't."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/works" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_service_that_works_fails_is_away_or_has_no_name(server: str) -> None:
    """Field case I6: also a name that can't be resolved any more."""
    addresses = {
        "works": f"{server}/works",
        "fails": f"{server}/fails",
        "away": "http://127.0.0.1:9/works",
        "vanished": "http://no-such-service.invalid/works",
    }
    seen = registry(*probe_metrics(addresses)).get_sample_value
    found = {service: seen("probe_success", {"service": service}) for service in addresses}
    assert found == {"works": 1, "fails": 0, "away": 0, "vanished": 0}
    assert seen("probe_duration_seconds", {"service": "works"}) < 5  # type: ignore[operator]


def test_services_without_metrics_are_asked() -> None:
    asked = services(Settings())
    assert {"mlflow", "schema-registry", "superset", "airflow-api-server", "training"} == set(asked)
    assert all(address.startswith("http://") for address in asked.values())


def test_runs_and_heartbeats() -> None:
    dags = [
        Dag("fraud_pipeline", last_success=2_000.0, first_run=1_000.0, last_run_failed=False, success_seconds=61.5),
        Dag("model_training", last_success=None, first_run=1_500.0, last_run_failed=True, success_seconds=None),
        Dag("lakehouse_maintenance", last_success=None, first_run=None, last_run_failed=None, success_seconds=None),
    ]
    seen = registry(*families(dags, {"SchedulerJob": 2_100.0})).get_sample_value
    last, failed = "airflow_dag_last_success_timestamp_seconds", "airflow_dag_last_run_failed"
    assert seen(last, {"dag_id": "fraud_pipeline"}) == 2_000
    assert seen(last, {"dag_id": "model_training"}) is None
    assert seen("airflow_dag_last_success_seconds", {"dag_id": "fraud_pipeline"}) == 61.5
    assert seen(failed, {"dag_id": "fraud_pipeline"}) == 0
    assert seen(failed, {"dag_id": "model_training"}) == 1
    assert seen(failed, {"dag_id": "lakehouse_maintenance"}) is None
    assert seen("airflow_dag_first_run_timestamp_seconds", {"dag_id": "model_training"}) == 1_500
    assert seen("airflow_heartbeat_timestamp_seconds", {"job_type": "SchedulerJob"}) == 2_100


def test_a_database_that_does_not_answer_is_a_metric() -> None:
    (metric,) = airflow_metrics(Settings(postgres_host="127.0.0.1", postgres_port=9))
    assert (metric.name, metric.samples[0].value) == ("airflow_database_answers", 0)


def test_the_disk(tmp_path: os.PathLike[str]) -> None:
    size, free = (metric.samples[0].value for metric in disk_metrics(str(tmp_path)))
    assert 0 < free <= size


def test_registering_asks_nobody() -> None:
    def refuse() -> list[Metric]:
        raise AssertionError("asked")

    CollectorRegistry().register(LiveCollector([refuse]))

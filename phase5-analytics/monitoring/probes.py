"""Whether services that export no metrics work: each is asked something that it can only answer if it does."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import httpx2
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from monitoring.settings import Settings

TIMEOUT_SECONDS = 5.0


def services(settings: Settings) -> dict[str, str]:
    """The address to ask, by service."""
    return {
        # A question to the registry's database, not only to the web server.
        "mlflow": f"{settings.mlflow_tracking_uri}/api/2.0/mlflow/registered-models/search?max_results=1",
        "schema-registry": f"{settings.schema_registry_url}/subjects",
        "superset": f"{settings.superset_url}/health",
        "airflow-api-server": f"{settings.airflow_url}/api/v2/monitor/health",
        "training": f"{settings.training_url}/health",
    }


def probe_metrics(addresses: Mapping[str, str]) -> list[Metric]:
    """Ask all services at once. A name that can't be resolved is a failure like any other."""
    success = GaugeMetricFamily("probe_success", "1 if the service answers with success", labels=["service"])
    seconds = GaugeMetricFamily("probe_duration_seconds", "How long it took to answer", labels=["service"])
    with ThreadPoolExecutor(len(addresses)) as pool:
        for service, (works, took) in zip(addresses, pool.map(_ask, addresses.values()), strict=True):
            success.add_metric([service], works)
            seconds.add_metric([service], took)
    return [success, seconds]


@cache
def _client() -> httpx2.Client:
    # A client takes longer to make than a service takes to answer. Each answer ends its connection, so that the next
    # one shows that the service can be reached.
    return httpx2.Client(timeout=TIMEOUT_SECONDS, limits=httpx2.Limits(max_keepalive_connections=0))


def _ask(address: str) -> tuple[bool, float]:
    started = time.monotonic()
    try:
        works = _client().get(address).is_success
    except (httpx2.HTTPError, httpx2.InvalidURL):
        works = False
    return works, time.monotonic() - started

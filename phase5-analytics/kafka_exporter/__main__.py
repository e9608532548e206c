"""Serves /metrics until SIGTERM. Upstream is the broker, downstream Prometheus."""

import logging
import threading
from collections.abc import Callable

from confluent_kafka.admin import AdminClient
from fraud_common.service import run_service
from prometheus_client import REGISTRY

from kafka_exporter.cluster import Cluster, look
from kafka_exporter.collector import KafkaCollector
from kafka_exporter.settings import Settings

log = logging.getLogger("exporter")


def make_look(settings: Settings) -> Callable[[], Cluster]:
    """A function that looks at the cluster, with one client for as long as the client gets answers.

    After an error the next look uses a new client: when a broker came back under another address, the old client
    waited forever where a new one was answered at once.
    """
    options: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": "kafka-exporter",
        "reconnect.backoff.max.ms": 2_000,
        # While the broker is down librdkafka would fill the log; the collector logs it once.
        "log_level": 0,
    }
    client: AdminClient | None = None

    def look_now() -> Cluster:
        nonlocal client
        used, client = client or AdminClient(options), None
        cluster = look(used, settings.kafka_timeout_seconds)
        client = used
        return cluster

    return look_now


def serve(settings: Settings, stop: threading.Event) -> None:
    """Answer scrapes until the event is set. The exporter keeps running while the broker is down."""
    REGISTRY.register(KafkaCollector(make_look(settings), settings.cache_seconds))
    log.info("serving /metrics on port %d for %s", settings.metrics_port, settings.kafka_bootstrap_servers)
    stop.wait()


if __name__ == "__main__":
    run_service(Settings, serve)

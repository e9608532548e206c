"""Serves /metrics until SIGTERM. Upstream is the broker, downstream Prometheus."""

import logging
import signal
import sys
import threading
from collections.abc import Callable

from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY, start_http_server

from kafka_exporter.cluster import Cluster, look
from kafka_exporter.collector import KafkaCollector
from fraud_common.logs import set_up_logging
from kafka_exporter.settings import Settings, SettingsError, load_settings

log = logging.getLogger("exporter")


def asking(settings: Settings) -> Callable[[], Cluster]:
    """A look at the cluster, as often as it is asked for, with one client for as long as that gets answers.

    After a broker had come back under another address a client waited for ever, where a new one was answered at once.
    """
    options: dict[str, str | int | float | bool] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": "kafka-exporter",
        "reconnect.backoff.max.ms": 2_000,
        # librdkafka's own words about a broker that is away would fill the log; the collector says it once.
        "log_level": 0,
    }
    client: AdminClient | None = None

    def ask() -> Cluster:
        nonlocal client
        asked, client = client or AdminClient(options), None
        cluster = look(asked, settings.kafka_timeout_seconds)
        client = asked
        return cluster

    return ask


def main() -> None:
    """Run until SIGTERM; a wrong setting is one line and exit code 2. A broker that is away is no reason to end."""
    set_up_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings(Settings)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    REGISTRY.register(KafkaCollector(asking(settings), settings.cache_seconds))
    start_http_server(settings.metrics_port)
    log.info("serving /metrics on port %d for %s", settings.metrics_port, settings.kafka_bootstrap_servers)
    stop.wait()


if __name__ == "__main__":
    main()

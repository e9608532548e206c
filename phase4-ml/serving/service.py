"""How the services of this package that read Kafka start and end: settings, /metrics, SIGTERM, errors in one line."""

import logging
import signal
import sys
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException
from prometheus_client import start_http_server
from pydantic import Field
from pydantic_settings import BaseSettings

from serving.errors import ServiceError, Stopping
from serving.log import set_up_logging
from serving.settings import load_settings
from serving.snapshot_store import FeatureError

log = logging.getLogger("service")


class ServiceSettings(BaseSettings):
    """What each of them needs; the environment variable has the field's name in capitals."""

    kafka_bootstrap_servers: str = "localhost:9092"
    schema_registry_url: str = "http://localhost:8081"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # How long a start waits for the broker before it gives up with a message.
    connect_timeout_seconds: float = Field(default=30.0, gt=0)


def run_service[S: ServiceSettings](kind: type[S], work: Callable[[S, threading.Event], None]) -> None:
    """Run until SIGTERM; what a person can put right is one line and exit code 2.

    Args:
        kind: the settings of the service.
        work: returns, or raises Stopping, soon after the event is set.
    """
    set_up_logging()
    settings = load_settings(kind)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        start_http_server(settings.metrics_port)
        work(settings, stop)
    except Stopping as reason:
        log.info("stopping: %s", reason)
    except (ServiceError, FeatureError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KafkaException as error:
        print(f"error: kafka: {error.args[0].str()}; look at: docker compose logs kafka", file=sys.stderr)
        sys.exit(1)

"""How every long-running service starts and ends: settings, /metrics, SIGTERM, a user's mistake in one line."""

import logging
import signal
import threading
from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from pydantic import Field
from pydantic_settings import BaseSettings

from fraud_common.errors import Stopping, one_line_errors
from fraud_common.logs import set_up_logging
from fraud_common.memory_metrics import ContainerMemory
from fraud_common.settings import load_settings

log = logging.getLogger("service")


class ServiceSettings(BaseSettings):
    """What every service has."""

    # 0 serves no metrics.
    metrics_port: int = Field(default=0, ge=0, le=65535)


def run_service[S: ServiceSettings](
    kind: type[S], work: Callable[[S, threading.Event], None], registry: CollectorRegistry = REGISTRY
) -> None:
    """Run until SIGTERM.

    Args:
        kind: the settings class of the service.
        work: returns, or raises Stopping, soon after the event is set.
        registry: what /metrics answers, with the memory of the container.
    """
    set_up_logging()
    with one_line_errors():
        settings = load_settings(kind)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # From a thread: the main one, which runs handlers, may be in the middle of `stop.wait` and hold its lock.
            signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
        if settings.metrics_port:
            registry.register(ContainerMemory())
            start_http_server(settings.metrics_port, registry=registry)
        try:
            work(settings, stop)
        except Stopping as reason:
            log.info("stopping: %s", reason)

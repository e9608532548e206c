"""How every long-running service starts and ends: settings, /metrics, SIGTERM, a user's mistake in one line."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server
from pydantic import Field
from pydantic_settings import BaseSettings

from fraud_common.errors import Stopping, UserError
from fraud_common.logs import set_up_logging
from fraud_common.settings import load_settings

log = logging.getLogger("service")


class ServiceSettings(BaseSettings):
    """What every service has."""

    # 0 serves no metrics.
    metrics_port: int = Field(default=0, ge=0, le=65535)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with exit code 2 and one line for a mistake that a person can put right."""
    try:
        yield
    except UserError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


def run_service[S: ServiceSettings](kind: type[S], work: Callable[[S, threading.Event], None]) -> None:
    """Run until SIGTERM.

    Args:
        kind: the settings class of the service.
        work: returns, or raises Stopping, soon after the event is set.
    """
    set_up_logging()
    with one_line_errors():
        settings = load_settings(kind)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if settings.metrics_port:
            start_http_server(settings.metrics_port)
        try:
            work(settings, stop)
        except Stopping as reason:
            log.info("stopping: %s", reason)

"""Logs of services: one JSON object a line on standard error."""

import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

# Libraries that log every request at INFO.
_NOISY = ("httpx2", "httpcore2", "pybreaker", "py4j")


class _Formatter(JsonFormatter):
    """Levels in lower case; `extra={"rows": 3}` becomes a field of the line."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        return super().process_log_record(log_data)


def json_formatter() -> logging.Formatter:
    """A formatter that writes time (UTC), level, logger, message, and the exception where there is one."""
    return _Formatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        timestamp="time",
    )


def set_up_logging() -> None:
    """Send all logging of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)

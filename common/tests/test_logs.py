"""Log lines: one JSON object each, on standard error."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from fraud_common.logs import json_formatter


def line_of(record: logging.LogRecord) -> dict:
    text = json_formatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def record(message: str, *args: object, extra: dict | None = None, level: int = logging.INFO) -> logging.LogRecord:
    return logging.getLogger("delivery").makeRecord("delivery", level, __file__, 1, message, args, None, extra=extra)


def test_a_line_has_time_level_logger_and_message() -> None:
    line = line_of(record("sent %d of %s", 3, "many", level=logging.WARNING))
    assert line.keys() == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"], line["message"]) == ("warning", "delivery", "sent 3 of many")
    assert "T" in line["time"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=1)


def test_extra_values_are_fields_whatever_their_type() -> None:
    extra = {"rows": 3, "by_reason": {"MSG_SIZE_TOO_LARGE": 1}, "city": "Köln", "path": logging}
    line = line_of(record("done", extra=extra))
    assert (line["rows"], line["by_reason"], line["city"]) == (3, {"MSG_SIZE_TOO_LARGE": 1}, "Köln")
    assert "logging" in line["path"]


def test_an_exception_is_a_field_of_the_same_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log = logging.getLogger("x")
        failed = log.makeRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = line_of(failed)
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_set_up_logging_sends_every_logger_to_standard_error_but_not_the_noisy_ones() -> None:
    program = """
import logging
from fraud_common.logs import set_up_logging
set_up_logging()
logging.getLogger("anything").info("heard", extra={"n": 1})
logging.getLogger("httpx2").info("a request")
logging.getLogger("anything").debug("detail")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == ""
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [(line["message"], line["n"]) for line in lines] == [("heard", 1)]

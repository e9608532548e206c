"""How a service starts and ends: a process of its own for each test."""

import json
import os
import signal
import subprocess
import sys

PROGRAM = """
import logging
import sys
from fraud_common.errors import Stopping, UserError
from fraud_common.service import ServiceSettings, run_service

class Settings(ServiceSettings):
    size: int = 1

def work(settings, stop):
    logging.getLogger("work").info("running", extra={"size": settings.size})
    if settings.size == 2:
        raise UserError("size 2 is wrong: choose another")
    stop.wait()
    if settings.size == 3:
        raise Stopping("the registry does not answer")
    logging.getLogger("work").info("stopped")

run_service(Settings, work)
"""


def start(**settings: str) -> subprocess.Popen:
    environment = os.environ | {"METRICS_PORT": "0"} | settings
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen) -> tuple[int, list[str]]:
    """SIGTERM once it runs; returns the exit code and the messages."""
    assert process.stderr
    first = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    return process.returncode, [json.loads(line)["message"] for line in (first, *rest.splitlines())]


def test_sigterm_ends_the_work_and_the_process() -> None:
    assert end(start()) == (0, ["running", "stopped"])


def test_a_service_that_was_waiting_ends_in_order() -> None:
    assert end(start(SIZE="3")) == (0, ["running", "stopping: the registry does not answer"])


def test_a_mistake_of_the_user_is_one_line_and_code_2() -> None:
    for settings, line in (
        ({"SIZE": "2"}, "error: size 2 is wrong: choose another"),
        ({"METRICS_PORT": "70000"}, "error: METRICS_PORT=70000: "),
    ):
        process = start(**settings)
        _, text = process.communicate(timeout=60)
        assert process.returncode == 2
        (error,) = [part for part in text.splitlines() if not part.startswith("{")]
        assert error.startswith(line)

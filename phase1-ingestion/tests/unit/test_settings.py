"""A wrong setting is one line that names it and says what to do, and a non-zero exit."""

import os
import subprocess
import sys

import pytest

WRONG = [
    ({"PRODUCER_TPS": "abc"}, "PRODUCER_TPS=abc: must be a number of transactions a second above 0"),
    ({"PRODUCER_TPS": "-5"}, "PRODUCER_TPS=-5: must be a number"),
    ({"SIM_USERS": "many"}, "SIM_USERS=many:"),
    ({"SIM_PROFILE": "shops"}, "SIM_PROFILE=shops:"),
    ({"SIMULATOR": "maybe"}, "SIMULATOR=maybe:"),
    ({"INVALID_RATE": "2"}, "INVALID_RATE=2:"),
    ({"FRAUD_BURST": "2"}, "FRAUD_BURST=2:"),
    ({"SIM_DECLINES": "maybe"}, "SIM_DECLINES=maybe:"),
    ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"}, "KAFKA_BOOTSTRAP_SERVERS=localhost:1: no broker answers"),
]


@pytest.mark.parametrize(("environment", "message"), WRONG)
def test_a_wrong_setting(environment: dict[str, str], message: str) -> None:
    environment = os.environ | {"CONNECT_TIMEOUT_SECONDS": "1", "METRICS_PORT": "0"} | environment
    run = subprocess.run(
        [sys.executable, "-m", "producer.cli", "produce"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith(f"error: {message}")


def test_a_schema_file_that_is_not_there_is_found_before_the_broker_is_asked() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "producer.cli", "init"],
        env=os.environ | {"SCHEMA_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: schema /nowhere/transaction.avsc: No such file or directory; restore the file")

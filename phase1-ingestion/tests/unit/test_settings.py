"""A wrong setting is one line that names it and says what to do, and a non-zero exit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = [
    ({"PRODUCER_TPS": "abc"}, "PRODUCER_TPS=abc: must be a number of transactions a second above 0"),
    ({"PRODUCER_TPS": "-5"}, "PRODUCER_TPS=-5: must be a number"),
    ({"SIM_USERS": "many"}, "SIM_USERS=many:"),
    ({"SIMULATOR": "maybe"}, "SIMULATOR=maybe:"),
    ({"INVALID_RATE": "2"}, "INVALID_RATE=2:"),
    ({"FRAUD_BURST": "2"}, "FRAUD_BURST=2:"),
    ({"SCHEMA_REGISTRY_URL": "http://schema-registry:1"}, "SCHEMA_REGISTRY_URL=http://schema-registry:1: no schema"),
    ({"SCHEMA_DIR": "/nowhere"}, "schema /nowhere/transaction.avsc: No such file or directory; restore the file"),
    ({"STATE_DIR": "/nowhere"}, "/nowhere/simulation.json: "),
    ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"}, "KAFKA_BOOTSTRAP_SERVERS=localhost:1: no broker answers"),
]


@pytest.mark.parametrize(("environment", "message"), WRONG)
def test_a_wrong_setting(environment: dict[str, str], message: str, tmp_path: Path) -> None:
    here = {"CONNECT_TIMEOUT_SECONDS": "1", "STATE_DIR": str(tmp_path), "METRICS_PORT": "0"}
    environment = os.environ | here | environment
    run = subprocess.run(
        [sys.executable, "-m", "producer.cli", "produce"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith(f"error: {message}")

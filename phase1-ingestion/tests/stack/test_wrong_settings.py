"""Settings that only show to be wrong once the broker has answered: one line, and a non-zero exit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from producer.settings import Settings

pytestmark = pytest.mark.stack

WRONG = [
    ({"SCHEMA_REGISTRY_URL": "http://schema-registry:1"}, "SCHEMA_REGISTRY_URL=http://schema-registry:1: no schema"),
    ({"SCHEMA_DIR": "/nowhere"}, "schema /nowhere/transaction.avsc: No such file or directory; restore the file"),
    ({"STATE_DIR": "/nowhere"}, "/nowhere/simulation.json: "),
]


@pytest.mark.parametrize(("environment", "message"), WRONG)
def test_a_wrong_setting(settings: Settings, environment: dict[str, str], message: str, tmp_path: Path) -> None:
    here = {"CONNECT_TIMEOUT_SECONDS": "5", "STATE_DIR": str(tmp_path), "METRICS_PORT": "0"}
    environment = os.environ | here | environment
    run = subprocess.run(
        [sys.executable, "-m", "producer.cli", "produce"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith(f"error: {message}")

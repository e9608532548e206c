"""Retention without Trino: what is refused, and that a log keeps what a table needs."""

import os
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from lakehouse.retention import RetentionSettings, require_enough

BIN = Path(__file__).parents[2] / "airflow" / "bin"


@pytest.mark.parametrize(("days", "training"), [(0, 45), (89, 45), (119, 75), (0, 10_000)])
def test_what_training_needs_is_kept(days: int, training: int) -> None:
    require_enough(RetentionSettings(lakehouse_retention_days=days, training_days=training))


def test_a_retention_that_is_too_short_for_training_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_RETENTION_DAYS", "88")
    monkeypatch.setenv("TRAINING_DAYS", "")
    with pytest.raises(UserError, match=r"LAKEHOUSE_RETENTION_DAYS=88 .*TRAINING_DAYS=45, .* need 89; raise it in"):
        require_enough(load_settings(RetentionSettings))


def test_the_default_is_enough_for_the_default_training() -> None:
    require_enough(RetentionSettings())


@pytest.mark.parametrize("checkpoint", [None, 12])
def test_a_log_is_shortened_up_to_a_checkpoint(tmp_path: Path, checkpoint: int | None) -> None:
    """What `clean_logs` relies on: without a checkpoint nothing goes, however old it is."""
    for version in range(20):
        write_deltalake(tmp_path, pa.table({"version": [version]}), mode="append")
        if version == checkpoint:
            DeltaTable(tmp_path).create_checkpoint()
    long_ago = time.time() - 40 * 86_400
    for entry in (tmp_path / "_delta_log").glob("*.*"):
        os.utime(entry, (long_ago, long_ago))
    DeltaTable(tmp_path).cleanup_metadata()
    left = sorted(entry.name for entry in (tmp_path / "_delta_log").glob("*.json"))
    assert left[0] == f"{checkpoint or 0:020}.json"
    assert DeltaTable(tmp_path).to_pyarrow_table().num_rows == 20


def test_old_task_logs_go(tmp_path: Path) -> None:
    long_ago = time.time() - 40 * 86_400
    for name in ("run/old.log", "run/new.log", "gone/old.log"):
        file = tmp_path / "logs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        if "old" in name:
            os.utime(file, (long_ago, long_ago))
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW_RETENTION_DAYS": "39"}
    subprocess.run([BIN / "expire-task-logs"], env=environment, check=True)
    assert [file.name for file in (tmp_path / "logs").rglob("*.log")] == ["new.log"]


@pytest.mark.parametrize("command", ["expire-task-logs", "clean-airflow-database"])
def test_a_retention_that_is_no_number_is_refused(command: str) -> None:
    done = subprocess.run(
        [BIN / command], env=os.environ | {"AIRFLOW_RETENTION_DAYS": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: AIRFLOW_RETENTION_DAYS=0 is not a number of days from 1 on")

"""What makes a folder a complete backup."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str) -> subprocess.CompletedProcess[str]:
    script = f"source {ROOT}/infra/docker/common.sh; source infra/docker/archive.sh; {script}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "env").write_text("A=1\n")
    (tmp_path / "kafka-data.tar.gz").write_bytes(b"kafka" * 1000)
    (tmp_path / "minio-data.tar.gz").write_bytes(b"minio" * 1000)
    assert run(f"write_manifest {tmp_path}").returncode == 0
    return tmp_path


def test_a_complete_backup_is_accepted(backup: Path) -> None:
    assert run(f"check_manifest {backup}").returncode == 0


def test_a_missing_volume_is_noticed(backup: Path) -> None:
    """Field case H10."""
    (backup / "minio-data.tar.gz").unlink()
    done = run(f"check_manifest {backup}")
    assert done.returncode == 1
    assert "minio-data.tar.gz" in done.stderr


def test_a_torn_volume_is_noticed(backup: Path) -> None:
    """Field case H10."""
    (backup / "kafka-data.tar.gz").write_bytes(b"kafka" * 500)
    done = run(f"check_manifest {backup}")
    assert done.returncode == 1
    assert "kafka-data.tar.gz" in done.stderr


def test_a_backup_that_did_not_end_is_refused(backup: Path) -> None:
    """Field case H10: on a full disk, the manifest is not written."""
    (backup / "SHA256SUMS").unlink()
    assert "did not end" in run(f"check_manifest {backup}").stderr

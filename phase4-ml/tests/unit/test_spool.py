"""The files before Postgres: what a crash leaves behind is read by the next process, once, and in whole lines."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from audit import spool as spool_module
from audit.spool import Spool


def read(spool: Spool) -> list[bytes]:
    return [line for lines in spool.unstored() for line in lines]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_what_is_appended_is_read_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"1\n")
    spool.append(b"2\n3\n")
    assert read(spool) == [b"1", b"2", b"3"]
    assert read(spool) == []
    spool.append(b"4\n")
    assert read(spool) == [b"4"]


def test_a_chunk_that_was_not_stored_comes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"1\n")
    assert next(spool.unstored()) == [b"1"]  # and Postgres refuses it
    assert read(spool) == [b"1"]


def test_a_file_that_was_left_behind_is_taken_over_without_its_torn_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    left = tmp_path / "left.jsonl"
    left.write_bytes(b"1\n2\n2\ntorn")
    assert spool.adopt() == 3
    assert read(spool) == [b"1", b"2", b"2"]
    assert not left.exists()
    assert spool.adopt() == 0


def test_a_living_process_keeps_its_file(tmp_path: Path) -> None:
    spool, other = Spool(tmp_path), Spool(tmp_path)
    other.append(b"other\n")
    spool.append(b"own\n")
    assert spool.adopt() == 0
    assert read(spool) == [b"own"]
    assert read(other) == [b"other"]


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from audit.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "for line in sys.stdin.buffer: spool.append(line)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    lines = b"".join(b"%d\n" % number for number in range(1000))
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], input=lines, check=False)
    assert ended.returncode == -signal.SIGKILL
    spool = Spool(tmp_path)
    assert spool.adopt() == 1000
    assert b"".join(line + b"\n" for line in read(spool)) == lines


def test_large_files_are_closed_and_deleted_once_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_FILE_BYTES", 100)
    spool = Spool(tmp_path)
    for number in range(50):
        spool.append(b"%020d\n" % number)
    assert len(files(tmp_path)) == 11
    assert len(read(spool)) == 50
    assert len(files(tmp_path)) == 1


def test_a_stop_leaves_no_empty_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(b"1\n")
    spool.close()
    assert len(files(tmp_path)) == 1
    read(spool)
    spool.close()
    assert files(tmp_path) == []

"""The files before Postgres: what a crash leaves behind is read by the next process, once, and in whole lines."""

import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from audit import spool as spool_module
from audit.lines import find_lines
from audit.spool import NotRecordedError, Spool
from hypothesis import given, settings
from hypothesis import strategies as st
from predictions import line


def row(number: int) -> bytes:
    return b'{"prediction_id":%d}\n' % number


def read(spool: Spool) -> list[int]:
    """The numbers of all rows that are not stored."""
    return [orjson.loads(line)["prediction_id"] for line in read_lines(spool)]


def read_lines(spool: Spool) -> list[bytes]:
    return [line for lines in spool.unstored() for line in lines]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log with a quarantine beside it."""
    return tmp_path / "predictions"


def quarantined(folder: Path) -> list[dict[str, Any]]:
    found = [file.read_bytes() for file in folder.with_name("quarantine").glob("*.jsonl")]
    return [orjson.loads(each) for content in found for each in content.splitlines()]


def leave(folder: Path, content: bytes) -> Path:
    """A file of a worker that has ended."""
    folder.mkdir(exist_ok=True)
    left = folder / "left.jsonl"
    left.write_bytes(content)
    return left


ONE, TWO, THREE = (line(f"t{number}") for number in (1, 2, 3))


def test_what_is_appended_is_read_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(row(1))
    spool.append(row(2) + row(3))
    assert read(spool) == [1, 2, 3]
    assert read(spool) == []
    spool.append(row(4))
    assert read(spool) == [4]


def test_a_chunk_that_was_not_stored_comes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(row(1))
    assert next(spool.unstored()) == [row(1)[:-1]]  # and Postgres refuses it
    assert read(spool) == [1]


def test_a_file_that_was_left_behind_is_taken_over_without_its_torn_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    left = tmp_path / "left.jsonl"
    left.write_bytes(row(1) + row(2) + row(2) + b"torn")
    assert spool.adopt() == 3
    assert read(spool) == [1, 2, 2]
    assert not left.exists()
    assert spool.adopt() == 0


def test_a_living_process_keeps_its_file(tmp_path: Path) -> None:
    spool, other = Spool(tmp_path), Spool(tmp_path)
    other.append(row(1))
    spool.append(row(2))
    assert spool.adopt() == 0
    assert read(spool) == [2]
    assert read(other) == [1]


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from audit.spool import Spool\n"
        "spool = Spool(pathlib.Path(sys.argv[1]))\n"
        "for line in sys.stdin.buffer: spool.append(line)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    lines = b"".join(row(number) for number in range(1000))
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], input=lines, check=False)
    assert ended.returncode == -signal.SIGKILL
    spool = Spool(tmp_path)
    assert spool.adopt() == 1000
    assert read(spool) == list(range(1000))


def test_large_files_are_closed_and_deleted_once_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_FILE_BYTES", 100)
    spool = Spool(tmp_path)
    for number in range(50):
        spool.append(row(number + 100))
    assert len(files(tmp_path)) == 11
    assert spool.waiting == len(read(spool)) == 50
    assert spool.waiting == 0
    assert len(files(tmp_path)) == 1


def test_a_stop_leaves_no_empty_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(row(1))
    spool.close()
    assert len(files(tmp_path)) == 1
    read(spool)
    spool.close()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "whole", "bad"),
    [
        (ONE + b"\0" * 163_840 + TWO, [ONE, TWO], 163_840),
        (ONE + b"\0" * 163_840 + b"\n" + TWO, [ONE, TWO], 163_841),
        (b"\0" * 4096 + ONE + TWO + b"\0" * 4096, [ONE, TWO], 8192),
        (b"\0" * 300_000, [], 300_000),
        (ONE + TWO[:50] + b"\0" + TWO[51:] + THREE, [ONE, THREE], len(TWO)),
        (ONE + TWO[:50] + b"\n" + THREE, [ONE, THREE], 51),
        (ONE + TWO[:50] + THREE, [ONE, THREE], 50),
        (ONE + TWO[:-1] + THREE, [ONE, TWO, THREE], 0),
        (ONE + TWO[:-1], [ONE, TWO], 0),
        (ONE + TWO[:-2], [ONE], len(TWO) - 2),
        (b"x" * 163_840 + ONE, [ONE], 163_840),
        (random.Random(1).randbytes(500_000) + b"\n" + ONE, [ONE], None),
        (ONE + b"\xff\xfe" + TWO, [ONE, TWO], 2),
        (ONE + TWO.replace(b'"u"', b'"\xff"') + THREE, [ONE, THREE], None),
        (b"{" * 200_000 + b"\n" + ONE, [ONE], 200_001),
        (b'{"a":' * 20_000 + b"\n" + ONE, [ONE], 100_001),
        (b"\n\n" + ONE + b"\n\n", [ONE], 0),
        (b"", [], 0),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_damage_costs_no_whole_line(folder: Path, content: bytes, whole: list[bytes], bad: int | None) -> None:
    """B5: zeros and torn lines, wherever they are; what can't be stored is in quarantine before the file is deleted."""
    left = leave(folder, content)
    spool = Spool(folder)
    spool.adopt()
    assert [each + b"\n" for each in read_lines(spool)] == whole
    assert not left.exists() and spool.waiting == 0
    kept = quarantined(folder)
    assert bool(kept) == (bad != 0) and all(each["file"] == "left.jsonl" for each in kept)
    if bad is not None:
        assert sum(each["bytes"] for each in kept) == bad


damages = st.one_of(
    st.binary(max_size=100),
    st.integers(1, 5000).map(bytes),
    st.sampled_from([ONE[:40], TWO[40:], b'{"', b'{"prediction_id":', b"\n", b"}"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([ONE, TWO, THREE]), damages), max_size=12), st.integers(1, 3000))
def test_every_line_between_damage_is_found(pieces: list[bytes], chunk: int) -> None:
    """Each whole line of ours, however the file is cut into chunks, and nothing of the rest gets lost."""
    # A line that ends the damage before it is no longer whole: `{"` would swallow the next.
    content = b"".join(pieces)
    found, position, accounted = [], 0, 0
    while position < len(content):
        size = min(len(content), position + len(ONE) + chunk)
        part = find_lines(content[position:size], ended=size == len(content))
        found += part.lines
        accounted += sum(map(len, part.lines)) + sum(damage.end - damage.start for damage in part.damage)
        if not part.end:
            chunk += 4096
        position += part.end
    for ours in (ONE, TWO, THREE):
        assert found.count(ours[:-1]) == pieces.count(ours)
    assert accounted >= len(content) - content.count(b"\n")


def test_what_cannot_be_read_does_not_keep_the_others_waiting(folder: Path) -> None:
    """A file that belongs to another user, or is none at all."""
    spool = Spool(folder)
    (folder / "directory.jsonl").mkdir()
    (folder / "gone.jsonl").symlink_to(folder / "nowhere" / "nothing")
    left = leave(folder, ONE)
    assert spool.adopt() == 1
    assert read_lines(spool) == [ONE[:-1]] and not left.exists()


def test_a_file_stays_until_its_damage_is_in_quarantine(folder: Path) -> None:
    left = leave(folder, b"garbage\n" + ONE)
    spool = Spool(folder)
    spool.adopt()
    in_the_way = folder.with_name("quarantine")
    in_the_way.write_text("no folder")
    assert read_lines(spool) == [ONE[:-1]] and left.exists()
    assert read_lines(spool) == [] and left.exists()
    in_the_way.unlink()
    assert read_lines(spool) == [] and not left.exists()
    assert [each["text"] for each in quarantined(folder)] == ["garbage\n"]


def test_a_line_that_is_refused_is_in_quarantine(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(ONE + TWO)
    for _ in spool.unstored():
        spool.refuse(ONE[:-1], "no such day")
    (kept,) = quarantined(folder)
    assert (kept["reason"], kept["problem"], kept["text"]) == ("refused", "no such day", ONE[:-1].decode())


def test_the_log_has_a_limit_that_counts_all_workers_and_ends_once_lines_are_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MEASURED_SECONDS", 0.0)
    spool, other = Spool(folder, max_bytes=10 * len(ONE)), Spool(folder, max_bytes=10 * len(ONE))
    for each in (spool, other) * 5:
        each.append(ONE)
    for each in (spool, other):
        with pytest.raises(NotRecordedError, match="AUDIT_MAX_MB") as refused:
            each.append(ONE + TWO)
        assert refused.value.lost == 2
    assert len(read_lines(spool)) == 5
    spool.append(ONE)
    assert read_lines(spool) == [ONE[:-1]] and len(read_lines(other)) == 5


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can grow beyond 3.5 lines, as on a disk with so much space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(ONE) * 7 // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_loses_only_what_it_says(folder: Path) -> None:
    spool = Spool(folder)
    spool.append(ONE)
    with pytest.raises(NotRecordedError) as torn:
        spool.append(TWO + THREE + ONE)
    with pytest.raises(NotRecordedError) as full:
        spool.append(TWO)
    assert (torn.value.lost, full.value.lost) == (1, 1)
    assert [each + b"\n" for each in read_lines(spool)] == [ONE, TWO, THREE]
    # Space again: what comes next is not glued to the torn line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * len(ONE), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    spool.append(TWO)
    assert read_lines(spool) == [TWO[:-1]] and spool.waiting == 0
    assert [each["bytes"] for each in quarantined(folder)] == [len(ONE) // 2 + 1]

"""Our files of lines beside SQLite's write-ahead log: the time of one append, and what a zeroed block costs.

python3 phase4-ml/bench/log_formats.py FOLDER

Prints a Markdown table. FOLDER is on the disk to be measured; what the bench writes there is deleted.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import typer
from audit.spool import Spool

LINES = 5_000
# Of the appends that are synced one by one.
SYNCED = 1_000
BLOCK = 4096


def lines(count: int) -> list[bytes]:
    """Lines about as long as those of predictions."""
    features = {f"feature_{number}": number * 1.37 for number in range(60)}
    rows = ({"prediction_id": number, "features": features} for number in range(count))
    return [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]


def microseconds(append: Callable[[bytes], object], count: int) -> tuple[float, float]:
    """Median and p99 of one call."""
    times = []
    for line in lines(count):
        started = time.perf_counter()
        append(line)
        times.append(time.perf_counter() - started)
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return p50, p99


def sqlite_log(file: Path, synchronous: str) -> sqlite3.Connection:
    """A database with a table of lines; every insert is a transaction."""
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute(f"pragma synchronous = {synchronous}")
    database.execute("create table predictions (id integer primary key, line blob)")
    return database


def with_a_zeroed_block(file: Path) -> bytes:
    """The file's bytes, with a block in the middle as if it had never been written."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // BLOCK * BLOCK
    content[middle : middle + BLOCK] = bytes(BLOCK)
    return bytes(content)


def left_in_sqlite(folder: Path, count: int) -> int:
    """How many rows SQLite has after a crash that zeroed a block of its log."""
    database = sqlite_log(folder / "whole.db", "off")
    database.execute("pragma wal_autocheckpoint = 0")
    for line in lines(count):
        database.execute("insert into predictions (line) values (?)", (line,))
    shutil.copy(folder / "whole.db", folder / "damaged.db")
    (folder / "damaged.db-wal").write_bytes(with_a_zeroed_block(folder / "whole.db-wal"))
    ((left,),) = sqlite3.connect(folder / "damaged.db").execute("select count(*) from predictions").fetchall()
    return left


def left_in_files(folder: Path, count: int) -> int:
    """How many lines our files have after the same."""
    whole = folder / "whole"
    whole.write_bytes(b"".join(lines(count)))
    spool = Spool(folder / "predictions")
    (spool.folder / "damaged.jsonl").write_bytes(with_a_zeroed_block(whole))
    spool.adopt()
    return sum(len(found) for found in spool.unstored())


def main(folder: Path) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        ours = Spool(Path(work, "predictions"))
        print("| what is appended to | one append: p50 / p99 |\n|---|---|")

        def show(what: str, append: Callable[[bytes], object], count: int = LINES) -> None:
            p50, p99 = microseconds(append, count)
            print(f"| {what} | {p50:.1f} / {p99:.1f} µs |")

        show("a file of lines", ours.append)
        show("the same, each synced", lambda line: ours.append(line).sync(), SYNCED)
        for synchronous in ("normal", "full"):
            database = sqlite_log(Path(work, f"{synchronous}.db"), synchronous)
            show(
                f"SQLite, synchronous={synchronous}",
                lambda line, database=database: database.execute("insert into predictions (line) values (?)", (line,)),
                SYNCED if synchronous == "full" else LINES,
            )
        print(f"\nof {SYNCED} lines, after one zeroed block in the middle of the log:")
        print(f"files {left_in_files(Path(work), SYNCED)}, SQLite {left_in_sqlite(Path(work), SYNCED)}")


if __name__ == "__main__":
    typer.run(main)

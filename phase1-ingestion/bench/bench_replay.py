"""Replay's measurements: a narrow and a wide CSV of rows without ids, from the file to the last acknowledgement.

Prints one JSON line for each: python3 bench/bench_replay.py --rows N --wide-rows N. They go to the topics of the stack
that it runs on. With --no-kafka everything but the sending is measured, which needs no stack.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fraud_common.avro import Encoder, load_schema
from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings
from fraud_common.topics import LABELS, SCHEMA_FILES, TRANSACTIONS
from producer.replay.column_map import ColumnMap
from producer.replay.replay import Messages, run_replay
from producer.replay.rows import read_rows
from producer.replay.summary import summarise
from producer.settings import Settings

SCHEMAS = Path(__file__).parents[1] / "producer" / "schemas"
WIDE_COLUMNS = 400


@dataclass(frozen=True)
class Result:
    """One measurement."""

    columns: int
    rows: int
    kafka: bool
    seconds: float
    rows_per_second: float
    peak_mib: float  # of the process so far


def write_csv(file: Path, rows: int, columns: int) -> None:
    """Payments of 50,000 users, one in 97 a fraud, with as many further columns as asked for."""
    tail = "".join(f",{n / 7:.6f}" for n in range(columns - 5))
    with file.open("w") as text:
        text.write(",".join(["user_id,amount,event_time,merchant_id,is_fraud", *(f"V{n}" for n in range(columns - 5))]))
        text.write("\n")
        text.writelines(
            f"u{n % 50_000},{n % 9_973 / 100 + 0.01:.2f},2024-03-{1 + n % 28:02} {n % 24:02}:{n % 60:02}:{n % 59:02},"
            f"m{n % 300},{int(n % 97 == 0)}{tail}\n"
            for n in range(rows)
        )


@contextmanager
def measured(columns: int, rows: int, *, kafka: bool) -> Iterator[None]:
    """Print how long the block took."""
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(asdict(Result(columns, rows, kafka, round(seconds, 2), round(rows / seconds), round(peak)))))


def make_messages(file: Path) -> None:
    """All that replay does without Kafka."""
    encoders = {topic: Encoder(load_schema(SCHEMAS / SCHEMA_FILES[topic])[1], 1) for topic in (TRANSACTIONS, LABELS)}
    with read_rows(file, ColumnMap()) as rows:
        summarise(rows)
        messages = Messages(encoders, rows, ColumnMap())
        for start in range(0, rows.size, rows.portion):
            messages.between(start, min(start + rows.portion, rows.size))


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file with 5 columns")
    parser.add_argument("--wide-rows", type=int, default=100_000, help=f"rows of the file with {WIDE_COLUMNS} columns")
    parser.add_argument("--no-kafka", action="store_true", help="everything but the sending")
    options = parser.parse_args()
    with one_line_errors(), TemporaryDirectory() as folder:
        for columns, rows in ((5, options.rows), (WIDE_COLUMNS, options.wide_rows)):
            if not rows:
                continue
            file = Path(folder) / f"{columns}.csv"
            write_csv(file, rows, columns)
            # What replay says is no result of this.
            with measured(columns, rows, kafka=not options.no_kafka), redirect_stdout(sys.stderr):
                make_messages(file) if options.no_kafka else run_replay(load_settings(Settings), file, None)


if __name__ == "__main__":
    main()

"""Measures the dead letter tools: time and peak memory with millions of dead letters.

    bench_dlq.py [LETTERS]

It writes dead letters of small payments, of Bronze and of the scorer in turn, and runs the commands as a person does.
Prints a Markdown table. The topics are emptied first, so it is for a stack of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout

from fraud_common.dead_letters import dead_letter_headers
from fraud_common.kafka import make_producer
from fraud_common.settings import load_settings
from fraud_common.topics import DEAD_LETTERS, MAX_RECORD_BYTES, TRANSACTIONS
from ingestion_stack import fresh_topics
from producer.settings import Settings

COMMANDS = (
    ["dlq-show"],
    ["dlq-redrive", "--all"],
    ["dlq-redrive", "--all", "--go"],
    ["dlq-show"],
)


def write_letters(settings: Settings, count: int) -> None:
    """Write so many dead letters of some hundred bytes, each of another message."""
    producer = make_producer(settings, MAX_RECORD_BYTES)
    for number in range(count):
        headers = dead_letter_headers(
            stage=("bronze", "scorer")[number % 2],
            reasons=[f"rule_{number % 7}"],
            error="refused by the bench",
            topic=TRANSACTIONS,
            partition=number % 10,
            offset=number // 10,
        )
        while True:
            try:
                producer.produce(DEAD_LETTERS, b"\0\0\0\0\1" + b"x" * 100, f"user-{number % 20_000}", headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def measure(arguments: list[str]) -> tuple[float, int, str]:
    """Run one command: seconds, peak memory in MiB, and its last line."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, "-m", "producer.cli", *arguments], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        text = output.read()
    if status:
        raise RuntimeError(f"{arguments} failed: {text}")
    *_, last = text.strip().splitlines()
    return time.monotonic() - start, usage.ru_maxrss // 1024, last


def main() -> None:
    """Write the letters, and print a row for each command."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    settings = load_settings(Settings)
    with redirect_stdout(sys.stderr):
        fresh_topics(settings)
    write_letters(settings, count)
    print(f"| {count:,} dead letters | time | peak memory | its last line |\n|---|---|---|---|")
    for arguments in COMMANDS:
        seconds, mebibytes, last = measure(arguments)
        print(f"| `{' '.join(arguments)}` | {seconds:.0f} s | {mebibytes} MiB | {last:.60} |", flush=True)


if __name__ == "__main__":
    main()

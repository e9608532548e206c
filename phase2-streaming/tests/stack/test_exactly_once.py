"""kill -9 of each part of the path under load, at different moments; afterwards the counts.

By default Spark's driver is killed once; the end-to-end checks kill all parts at the same moment.
CRASH_ROUNDS says how often each of them is killed: `make phase2-drills` does it three times.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from bronze import WORLD, assert_exactly_once_in_bronze, bronze_rows, kill_executor, kill_main_process, metric
from fraud_common.kafka import wait_for_broker
from fraud_common.topics import LABELS, TRANSACTIONS
from ingestion_stack import ProducerProcess, assert_exactly_once, count_in, producing, service, wait_until
from producer.settings import Settings

pytestmark = pytest.mark.stack

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "0"))
VICTIMS = {
    "driver": lambda: kill_main_process(service("spark-streaming")),
    "executor": kill_executor,
    "broker": lambda: kill_main_process(service("kafka")),
    "minio": lambda: kill_main_process(service("minio")),
}
# One after the other on the same stream, so that each crash also meets the consequences of those before.
ORDER = [(victim, round_number) for round_number in range(ROUNDS) for victim in VICTIMS]
ORDER = ORDER or [("driver", 0)]
moments = random.Random(20261124)


@pytest.fixture(scope="module")
def load(settings: Settings, producer_state: Path) -> Iterator[ProducerProcess]:
    """A producer under load for the whole module; afterwards Kafka's side of the promise is checked too."""
    with producing(producer_state, **WORLD, producer_tps=1_000, invalid_rate=0.001) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        yield producer
        producer.terminate(120)
    assert_exactly_once(settings, producer_state)


def batches_done() -> float:
    return metric("bronze_last_commit_timestamp_seconds", topic=TRANSACTIONS)


@pytest.mark.parametrize(("victim", "round_number"), ORDER)
def test_kill_9(settings: Settings, load: ProducerProcess, victim: str, round_number: int) -> None:
    # Somewhere in the 10 s of a batch, each time somewhere else.
    moment = moments.uniform(0, 10)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > moment, "the moment of the crash")
    VICTIMS[victim]()
    killed = time.time()
    wait_for_broker(settings)
    wait_until(lambda: batches_done() > killed, f"a batch after kill -9 of {victim}", 240)
    healed = time.time() - killed
    print(f"| {victim} | {round_number + 1} | {moment:.1f} s into a batch | next commit after {healed:.0f} s |")


def test_batches_wait_for_the_registry(settings: Settings, load: ProducerProcess) -> None:
    restarts = service("spark-streaming").attrs["RestartCount"]
    registry = service("schema-registry")
    registry.stop(timeout=10)
    away = time.monotonic()
    wait_until(lambda: time.monotonic() - away > 25, "the outage itself, of two batches")
    registry.start()
    back = time.time()
    wait_until(lambda: batches_done() > back, "a batch after the registry is back", 120)
    assert service("spark-streaming").attrs["RestartCount"] == restarts


def test_afterwards_every_message_is_there_once(settings: Settings, load: ProducerProcess) -> None:
    load.process.send_signal(signal.SIGSTOP)  # no more load, so that the counts can be compared
    try:
        for topic in (TRANSACTIONS, LABELS):
            wait_until(lambda t=topic: is_at_rest(settings, t), "the last messages of the producer")
            counts = assert_exactly_once_in_bronze(settings, topic)
            print(f"| {topic} | " + " | ".join(f"{name} {count:,}" for name, count in counts.items()) + " |")
    finally:
        load.process.send_signal(signal.SIGCONT)


def is_at_rest(settings: Settings, topic: str) -> bool:
    """Whether nothing arrives for a second."""
    before = count_in(settings, topic)
    time.sleep(1)
    return count_in(settings, topic) == before


def test_late_events_are_in_and_marked() -> None:
    """Late is what is far behind the newest event of all batches before: the rows of a batch share `loaded_at`."""
    rows = bronze_rows("transactions", ["event_time", "is_late", "loaded_at"])
    batches = rows.group_by("loaded_at").aggregate([("event_time", "max")]).sort_by("loaded_at").to_pylist()
    assert len(batches) > 1
    newest_before: dict[datetime, datetime | None] = {}
    newest = None
    for batch in batches:
        newest_before[batch["loaded_at"]] = newest
        newest = max(batch["event_time_max"], newest or batch["event_time_max"])
    for row in rows.to_pylist():
        before = newest_before[row["loaded_at"]]
        is_late = before is not None and row["event_time"] < before - timedelta(minutes=30)
        assert row["is_late"] == is_late, row

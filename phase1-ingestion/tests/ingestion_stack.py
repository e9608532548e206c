"""What the tests against the real broker and registry share: fresh topics, the producer as a process, reading back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import numpy as np
from confluent_kafka import Message
from docker.models.containers import Container
from fraud_common.dead_letters import DeadLetter
from fraud_common.kafka import make_reader, offsets_of, read_topic, wait_for_broker
from fraud_common.topics import LABELS, TOPICS, TRANSACTIONS
from producer.dlq.backlog import Backlog
from producer.init import run_init
from producer.settings import Settings
from producer.simulation import read_simulation
from producer.simulator.payments import DAY_MS
from producer.simulator.stream import POSITIONS_A_DAY, Stream, position_of
from producer.simulator.world import partitions_of


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Wait until the condition returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return result


def fresh_topics(settings: Settings) -> None:
    """All topics of the platform, empty."""
    admin = wait_for_broker(settings)
    present = [topic for topic in TOPICS if topic in admin.list_topics(timeout=10).topics]
    for future in admin.delete_topics(present).values() if present else ():
        future.result()
    wait_until(lambda: not set(TOPICS) & set(admin.list_topics(timeout=10).topics), "topics deleted")
    run_init(settings)


def service(name: str) -> Container:
    """The container of a service of the stack that the tests run in."""
    project = os.environ["COMPOSE_PROJECT_NAME"]
    labels = [f"com.docker.compose.project={project}", f"com.docker.compose.service={name}"]
    (container,) = docker.from_env().containers.list(all=True, filters={"label": labels})
    return container


class ProducerProcess:
    """`ingestion produce` as a process of its own, which can be stopped and killed."""

    def __init__(self, state_dir: Path, **settings: Any) -> None:
        environment = {name.upper(): str(value) for name, value in settings.items()}
        environment = os.environ | {"STATE_DIR": str(state_dir), "METRICS_PORT": "0"} | environment
        self._log = (state_dir / f"log-{time.monotonic_ns()}").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "producer.cli", "produce"], env=environment, stderr=self._log
        )

    def log(self) -> list[dict[str, Any]]:
        """The log lines so far."""
        self._log.flush()
        text = Path(self._log.name).read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def logged(self, message: str) -> dict[str, Any] | None:
        """The last log line with this message, if there is one."""
        return next((line for line in reversed(self.log()) if line["message"].startswith(message)), None)

    def terminate(self, seconds: float = 60.0) -> dict[str, Any]:
        """SIGTERM; returns the final count."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(seconds) == 0, self.log()[-3:]
        stopped = self.logged("stopped")
        assert stopped
        return stopped

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def producing(state_dir: Path, **settings: Any) -> Iterator[ProducerProcess]:
    """A producer that ends with the test at the latest."""
    producer = ProducerProcess(state_dir, **settings)
    try:
        yield producer
    finally:
        producer.process.kill()


def messages_in(settings: Settings, topic: str) -> list[Message]:
    """All messages of a topic."""
    client = make_reader(settings)
    try:
        return list(read_topic(client, topic))
    finally:
        client.close()


def waiting_letters(settings: Settings) -> list[DeadLetter]:
    """All dead letters that were not sent back, oldest first."""
    return sorted(Backlog(settings).letters("reading"), key=lambda letter: letter.failed_at)


def count_in(settings: Settings, topic: str) -> int:
    """How many messages a topic has, by its offsets."""
    client = make_reader(settings)
    try:
        ends = [offsets_of(client, topic, partition) for partition in range(TOPICS[topic].partitions)]
        return sum(high - low for low, high in ends)
    finally:
        client.close()


def id_in(value: bytes | None) -> str:
    """The first field, transaction_id, of a message: a length and that many bytes; empty for garbage."""
    try:
        return value[6 : 6 + (value[5] >> 1)].decode() if value else ""
    except (IndexError, UnicodeDecodeError):
        return ""


def simulated(state_dir: Path) -> Stream:
    """The stream that a producer with this state is sending."""
    return read_simulation(json.loads((state_dir / "simulation.json").read_text())).stream()


def assert_exactly_once(settings: Settings, state_dir: Path) -> dict[str, int]:
    """Kafka has the stream from its beginning, every payment and label once, in order, in the right partition.

    Returns:
        The counts: expected, in_kafka, missing, doubled.
    """
    stream = simulated(state_dir)
    seen = [(id_in(m.value()), m) for m in messages_in(settings, TRANSACTIONS)]
    own = [(position_of(name), m) for name, m in seen if position_of(name) is not None]
    counts = Counter(position for position, _ in own)
    doubled = [position for position, count in counts.items() if count > 1]
    last = max(counts)
    expected = expected_positions(stream, last)
    missing = set(expected) - set(counts)
    report = {"expected": len(expected), "in_kafka": len(own), "missing": len(missing), "doubled": len(doubled)}
    print(report)
    assert not missing and not doubled and len(own) == len(expected), report
    assert_order_and_partition(stream, own)
    assert_labels_once(settings, stream, last)
    return report


def expected_positions(stream: Stream, last: int) -> list[int]:
    """All positions of the stream up to one."""
    days = range(stream.start_day, last // POSITIONS_A_DAY + 1)
    positions = np.concatenate([stream.block(day).positions for day in days])
    return positions[positions <= last].tolist()


def assert_order_and_partition(stream: Stream, own: list[tuple[Any, Message]]) -> None:
    """Within a partition the stream's order is kept, and a cardholder's payments are all in the key's partition."""
    partition_of = dict(zip(stream.world.users, partitions_of(stream.world.users, 10).tolist(), strict=True))
    latest: dict[int, int] = {}
    for position, message in own:
        partition = message.partition() or 0
        assert latest.get(partition, -1) < position
        latest[partition] = position
        assert partition_of[(message.key() or b"").decode()] == partition


def assert_labels_once(settings: Settings, stream: Stream, last: int) -> None:
    """Every label that was due is there once."""
    names = [id_in(m.value()) for m in messages_in(settings, LABELS)]
    sent = Counter(name for name in names if position_of(name) is not None)
    assert not [name for name, count in sent.items() if count > 1]
    last_day = last // POSITIONS_A_DAY
    clock = int(stream.block(last_day).arrival_ms[last % POSITIONS_A_DAY])
    due = [stream.labels(day) for day in range(stream.start_day, last_day + 1)]
    assert len(sent) == sum(int((labels.reported_ms <= clock).sum()) for labels in due)
    assert last_day >= clock // DAY_MS

"""What the tests of Bronze share: an independent reader (deltalake, not Spark), and the messages in Kafka."""

import os
from collections import Counter
from typing import Any

import httpx2
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from docker.models.containers import Container
from fraud_common.settings import KafkaSettings
from fraud_common.topics import DEAD_LETTERS, LABELS, TRANSACTIONS
from ingestion_stack import count_in, messages_in, service, wait_until
from prometheus_client.parser import text_string_to_metric_families

TABLES = {TRANSACTIONS: "transactions", LABELS: "labels"}
# The simulated world of these tests: 5 days of history are about 105,000 payments.
WORLD = {"sim_users": 10_000, "backfill_days": 5}
COORDINATES = ["kafka_partition", "kafka_offset"]


def bronze_table(name: str, version: int | None = None) -> DeltaTable:
    """A Bronze table, as the deltalake package sees it."""
    options = {
        "endpoint_url": "http://minio:9000",
        "access_key_id": "spark",
        "secret_access_key": os.environ["SPARK_S3_SECRET"],
        "region": "us-east-1",
        "allow_http": "true",
    }
    return DeltaTable(f"s3://lakehouse/bronze/{name}", version=version, storage_options=options)


def bronze_rows(name: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of a Bronze table; none while there is no table."""
    try:
        return bronze_table(name).to_pyarrow_table(columns=columns)
    except TableNotFoundError:
        return pa.table({column: [] for column in columns or []})


def dead_letters_from_bronze(settings: KafkaSettings) -> dict[tuple[str, int, int], set[str]]:
    """Topic, partition, offset -> reasons of the messages that the Bronze writer refused, each once."""
    found: dict[tuple[str, int, int], set[str]] = {}
    for message in messages_in(settings, DEAD_LETTERS):
        headers = {name: bytes(value or b"").decode() for name, value in message.headers() or []}
        if headers["dlq.stage"] == "bronze":
            coordinates = (headers["dlq.topic"], int(headers["dlq.partition"]), int(headers["dlq.offset"]))
            found[coordinates] = set(headers["dlq.reasons"].split(","))
    return found


def accounts(settings: KafkaSettings, topic: str) -> dict[str, int]:
    """Where the messages of a topic are: the figures that must add up."""
    rows = bronze_rows(TABLES[topic], COORDINATES).to_pydict()
    coordinates = Counter(zip(rows["kafka_partition"], rows["kafka_offset"], strict=True))
    dead = sum(1 for name, _, _ in dead_letters_from_bronze(settings) if name == topic)
    return {
        "produced": count_in(settings, topic),
        "dead_letters": dead,
        "bronze_rows": sum(coordinates.values()),
        "bronze_distinct": len(coordinates),
    }


def wait_for_bronze(settings: KafkaSettings, topic: str, seconds: float = 300.0) -> dict[str, int]:
    """Wait until all messages of the topic are in Bronze or dead letters; returns the accounts."""

    def complete() -> dict[str, int] | None:
        counts = accounts(settings, topic)
        return counts if counts["bronze_distinct"] + counts["dead_letters"] >= counts["produced"] else None

    return wait_until(complete, f"all of {topic} in Bronze: {accounts(settings, topic)}", seconds)


def assert_exactly_once_in_bronze(settings: KafkaSettings, topic: str, seconds: float = 300.0) -> dict[str, int]:
    """count(*) = count(distinct partition, offset) = produced - dead letters."""
    counts = wait_for_bronze(settings, topic, seconds)
    print(topic, counts)
    assert counts["bronze_rows"] == counts["bronze_distinct"] == counts["produced"] - counts["dead_letters"], counts
    return counts


def kill_main_process(container: Container) -> None:
    """kill -9 of the main process of a container; Docker restarts it, as after any crash."""
    restarts = container.attrs["RestartCount"]
    name = container.labels["com.docker.compose.service"]
    container.exec_run(["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"])
    wait_until(lambda: service(name).attrs["RestartCount"] > restarts, f"restart of {name}")


def kill_executor() -> None:
    """kill -9 of the executor, a child of the worker; the cluster starts another."""
    code, output = service("spark-worker").exec_run(["pkill", "-9", "-f", "CoarseGrainedExecutorBackend"])
    assert code == 0, output


def metric(name: str, **labels: str) -> float:
    """A metric of the Bronze writer, 0 while it does not exist."""
    try:
        text = httpx2.get("http://spark-streaming:9401/metrics", timeout=5).text
    except httpx2.HTTPError:
        return 0.0
    samples: Any = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return next((s.value for s in samples if s.name == name and labels.items() <= s.labels.items()), 0.0)

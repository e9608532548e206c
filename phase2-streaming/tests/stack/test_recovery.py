"""What Bronze does when something other than a crash happens: strangers' schemas, a lost checkpoint, a new topic.

The tests run in this order, after those of the whole job and of the crashes; the last one leaves new, empty topics.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pyarrow.fs as fs
import pytest
from bronze import TABLES, assert_exactly_once_in_bronze, bronze_rows, dead_letters_from_bronze, metric
from confluent_kafka import Producer
from docker.models.containers import Container
from fraud_common.avro import Encoder, load_encoder, load_schema, parse_schema
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, TRANSACTIONS, subject_of
from ingestion_stack import fresh_topics, service, wait_until
from producer.settings import Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream

pytestmark = pytest.mark.stack


def payments(prefix: str, count: int = 20) -> list[dict[str, Any]]:
    """Valid payments with ids of their own."""
    stream = Stream(11, 50, 20_300)
    block = stream.block(20_300)
    records = list(Records(stream).transactions(block.payments, block.positions))[:count]
    return [record | {"transaction_id": f"{prefix}-{index}"} for index, record in enumerate(records)]


def send(settings: Settings, values: list[bytes]) -> None:
    """Messages to transactions.raw."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all"})
    for index, value in enumerate(values):
        producer.produce(TRANSACTIONS, value, key=str(index).encode())
    assert producer.flush(60) == 0


def ids_in_bronze(prefix: str) -> list[str]:
    ids = bronze_rows("transactions", ["transaction_id"])["transaction_id"].to_pylist()
    return sorted(name for name in ids if name.startswith(f"{prefix}-"))


def names(records: list[dict[str, Any]]) -> list[str]:
    return sorted(record["transaction_id"] for record in records)


def refused_as(settings: Settings, reason: str) -> int:
    """How many messages Bronze has refused for this reason alone."""
    return sum(why == {reason} for why in dead_letters_from_bronze(settings).values())


def health(container: Container) -> str:
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])


@pytest.fixture
def encoder(settings: Settings) -> Encoder:
    return load_encoder(SchemaRegistry(settings.schema_registry_url), settings.schema_dir, TRANSACTIONS)


@pytest.fixture
def strangers_version(settings: Settings) -> Iterator[Encoder]:
    """Our schema without currency, registered by somebody who switched the rule off; deleted afterwards."""
    url, subject = settings.schema_registry_url, subject_of(TRANSACTIONS)
    schema = json.loads(load_schema(settings.schema_dir / "transaction.avsc")[0])
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "currency"]
    assert httpx2.put(f"{url}/config/{subject}", json={"compatibility": "NONE"}).status_code == 200
    answer = httpx2.post(f"{url}/subjects/{subject}/versions", json={"schema": json.dumps(schema)})
    assert answer.status_code == 200, answer.text
    try:
        yield Encoder(parse_schema(json.dumps(schema)), answer.json()["id"])
    finally:
        assert httpx2.delete(f"{url}/subjects/{subject}/versions/latest").status_code == 200
        assert httpx2.put(f"{url}/config/{subject}", json={"compatibility": "FULL_TRANSITIVE"}).status_code == 200


def test_bronze_goes_on_whatever_a_stranger_registers(
    settings: Settings, encoder: Encoder, strangers_version: Encoder
) -> None:
    """C1: the registry was told to accept everything. And a restart on quiet topics is healthy (A2).

    Among the messages is one whose first text claims to have two thousand million bytes: it costs no executor.
    """
    restarts = service("spark-streaming").attrs["RestartCount"]
    good = payments("beside-a-stranger")
    bad = [{name: value for name, value in record.items() if name != "currency"} for record in payments("stranger", 5)]
    endless = encoder.encode(good[0])[:5] + b"\xfe\xff\xff\xff\x0f"
    undecodable = refused_as(settings, "undecodable")
    send(settings, [endless, *map(encoder.encode, good), *map(strangers_version.encode, bad)])
    counts = assert_exactly_once_in_bronze(settings, TRANSACTIONS)
    assert counts["bronze_rows"] > 0
    assert ids_in_bronze("beside-a-stranger") == names(good)
    assert refused_as(settings, "schema_refused") == len(bad)
    assert refused_as(settings, "undecodable") == undecodable + 1
    assert metric("bronze_schemas_refused", topic=TRANSACTIONS) == 1
    assert service("spark-streaming").attrs["RestartCount"] == restarts
    # A new process is healthy without any message (A2), and takes the same decision.
    assert_exactly_once_in_bronze(settings, LABELS)
    container = service("spark-streaming")
    container.restart(timeout=60)
    wait_until(lambda: health(container) == "healthy", "spark-streaming is healthy on quiet topics", 240)
    assert metric("bronze_last_commit_timestamp_seconds", topic=TRANSACTIONS) == 0
    more = payments("after-a-restart")
    send(settings, [encoder.encode(record) for record in more])
    wait_until(lambda: ids_in_bronze("after-a-restart") == names(more), "payments after the restart", 240)


def test_messages_of_a_deleted_version_are_read(settings: Settings, encoder: Encoder) -> None:
    """C3."""
    registry, url = SchemaRegistry(settings.schema_registry_url), settings.schema_registry_url
    schema = json.loads(load_schema(settings.schema_dir / "transaction.avsc")[0])
    schema["fields"].append({"name": "terminal", "type": ["null", "string"], "default": None})
    text = json.dumps(schema)
    deleted = Encoder(parse_schema(text), registry.register(TRANSACTIONS, text))
    assert httpx2.delete(f"{url}/subjects/{subject_of(TRANSACTIONS)}/versions/latest").status_code == 200
    records = payments("deleted-version")
    send(settings, [deleted.encode(record | {"terminal": "t9"}) for record in records])
    wait_until(lambda: ids_in_bronze("deleted-version") == names(records), "payments of the deleted version")
    found = bronze_rows("transactions", ["transaction_id", "terminal"]).to_pylist()
    assert {row["terminal"] for row in found if row["transaction_id"].startswith("deleted-version")} == {"t9"}


def test_a_lost_checkpoint_neither_skips_nor_doubles_a_message(settings: Settings, encoder: Encoder) -> None:
    """A6."""
    before = assert_exactly_once_in_bronze(settings, TRANSACTIONS)
    container = service("spark-streaming")
    container.stop(timeout=60)
    missed = payments("while-the-checkpoint-was-lost", 500)
    send(settings, [encoder.encode(record) for record in missed])
    storage = fs.S3FileSystem(
        access_key="spark",
        secret_key=os.environ["SPARK_S3_SECRET"],
        endpoint_override="minio:9000",
        scheme="http",
        region="us-east-1",
    )
    for table in TABLES.values():
        storage.delete_dir(f"checkpoints/bronze/{table}")
    container.start()
    wait_until(lambda: len(ids_in_bronze("while-the-checkpoint-was-lost")) >= len(missed), "the missed payments", 240)
    for prefix in ("first-batch", "second-batch"):  # with batch numbers that the table has seen before
        more = payments(prefix)
        send(settings, [encoder.encode(record) for record in more])
        wait_until(lambda p=prefix, r=more: ids_in_bronze(p) == names(r), prefix)
    after = assert_exactly_once_in_bronze(settings, TRANSACTIONS)
    assert after["bronze_rows"] == before["bronze_rows"] + len(missed) + 40
    # No old message became a dead letter again.
    assert after["dead_letters"] == before["dead_letters"]


def test_a_recreated_topic_is_a_clear_stop(settings: Settings) -> None:
    """A6: even when it has as many messages as the old one had."""
    rows = bronze_rows("transactions", ["kafka_offset"]).num_rows
    container = service("spark-streaming")
    fresh_topics(settings)
    fresh = load_encoder(SchemaRegistry(settings.schema_registry_url), settings.schema_dir, TRANSACTIONS)
    send(settings, [fresh.encode(record) for record in payments("new-topic", 1000)])
    wait_until(lambda: metric("bronze_stopped", topic=TRANSACTIONS, reason="topic_recreated") == 1, "the stop", 300)
    wait_until(
        lambda: health(container) == "unhealthy" or metric("bronze_running", topic=TRANSACTIONS) == 0, "unhealthy"
    )
    restarts = service("spark-streaming").attrs["RestartCount"]
    assert "BronzeTopicRecreated in docs/runbook.md" in container.logs(tail=200).decode()
    assert bronze_rows("transactions", ["kafka_offset"]).num_rows == rows
    assert service("spark-streaming").attrs["RestartCount"] == restarts

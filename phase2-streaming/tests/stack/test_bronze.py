"""The whole job on Kafka, MinIO and Spark: each message lands once, bad ones become dead letters, schemas evolve."""

import json
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest
from bronze import (
    TABLES,
    WORLD,
    accounts,
    assert_exactly_once_in_bronze,
    bronze_rows,
    bronze_table,
    dead_letters_from_bronze,
    metric,
)
from confluent_kafka import Consumer, TopicPartition
from deltalake import DeltaTable
from fraud_common.avro import Decoder, Encoder, load_encoder, parse_schema, schema_id_of
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, TRANSACTIONS
from ingestion_stack import count_in, messages_in, producing, wait_until
from producer.delivery import Delivery
from producer.settings import Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream, position_of

pytestmark = pytest.mark.stack

# The rule or decoding error that each kind of bad message must be refused for.
REASONS = {
    "amount_negative": {"amount_not_positive"},
    "amount_zero": {"amount_not_positive"},
    "event_time_future": {"event_time_in_future"},
    "event_time_invalid": {"event_time_invalid"},
    "user_id_empty": {"user_id_missing"},
    "truncated": {"undecodable"},
    "unknown_schema": {"schema_unknown"},
}


def test_a_hundred_thousand_good_and_ten_thousand_bad_messages(settings: Settings, producer_state: Path) -> None:
    with producing(producer_state, **WORLD, invalid_rate=0.1) as producer:
        wait_until(lambda: producer.logged("history is complete"), "history")
        stopped = producer.terminate()
    produced = messages_in(settings, TRANSACTIONS)
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    counts = assert_exactly_once_in_bronze(settings, TRANSACTIONS)
    assert_exactly_once_in_bronze(settings, LABELS)
    assert counts["bronze_rows"] > 95_000
    assert counts["dead_letters"] + stopped["dead_lettered"] > 9_000

    good, bad = {}, {}
    for message in produced:
        coordinates = (message.partition(), message.offset())
        try:
            name = decoder.decode(message.value())["transaction_id"]
        except ValueError:
            name = ""
        (good if position_of(name) is not None else bad)[coordinates] = (name, message.value() or b"")
    rows = bronze_rows("transactions", ["kafka_partition", "kafka_offset", "transaction_id"]).to_pylist()
    assert {(r["kafka_partition"], r["kafka_offset"]): r["transaction_id"] for r in rows} == {
        coordinates: name for coordinates, (name, _) in good.items()
    }
    refused = {(partition, offset): why for (_, partition, offset), why in dead_letters_from_bronze(settings).items()}
    assert refused.keys() == bad.keys()
    for coordinates, (_, value) in bad.items():
        assert refused[coordinates] == expected_reasons(value), value[:80]


def expected_reasons(value: bytes) -> set[str]:
    """Why Bronze must refuse a message, by the bytes that the drill sent."""
    for kind, reasons in REASONS.items():
        if f"bad-{kind}-".encode() in value:
            return reasons
    if not value:
        return {"value_empty"}
    if value[0] != 0:
        return {"not_wire_format"}
    if schema_id_of(value) > 1_000:  # random bytes that begin with a zero
        return {"schema_unknown"}
    # The transaction's id is empty, and the user's too where several rules are violated.
    several = {"transaction_id_missing", "user_id_missing", "amount_not_positive"}
    return {"transaction_id_missing"} if value[6] else several


def test_bronze_keeps_the_fields_as_they_were_sent(settings: Settings) -> None:
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    message = messages_in(settings, TRANSACTIONS)[0]
    sent = decoder.decode(message.value())
    table = bronze_table("transactions").to_pyarrow_dataset()
    here = (pc.field("kafka_partition") == message.partition()) & (pc.field("kafka_offset") == message.offset())
    (row,) = table.to_table(filter=here).to_pylist()
    assert dict(row["metadata"]) == sent.pop("metadata")
    assert {name: row[name] for name in sent} == sent
    assert row["kafka_timestamp"].timestamp() * 1000 == message.timestamp()[1]
    assert row["loaded_at"] > row["kafka_timestamp"]
    assert row["event_date"] == sent["event_time"].date()
    assert bronze_table("transactions").metadata().partition_columns == ["event_date"]


def test_the_lag_is_visible_in_kafka_and_the_metrics_agree(settings: Settings) -> None:
    group = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "bronze-writer"})
    partitions = [TopicPartition(topic, p) for topic in TABLES for p in range(10)]
    wait_until(
        lambda: (
            sum(max(p.offset, 0) for p in group.committed(partitions, timeout=10))
            == sum(count_in(settings, topic) for topic in TABLES)
        ),
        "the group's offsets at the end of the topics",
    )
    group.close()
    counts = accounts(settings, TRANSACTIONS)
    assert metric("bronze_rows_total", topic=TRANSACTIONS) == counts["bronze_rows"]
    assert metric("bronze_rule_violations_total", topic=TRANSACTIONS, rule="undecodable") > 100
    assert time.time() - metric("bronze_last_commit_timestamp_seconds", topic=TRANSACTIONS) < 600


def test_a_new_column_appears_without_a_stop(settings: Settings) -> None:
    registry = SchemaRegistry(settings.schema_registry_url)
    schema = json.loads((settings.schema_dir / "transaction.avsc").read_text())
    schema["fields"].append({"name": "entry_mode", "type": ["null", "string"], "default": None})
    text = json.dumps(schema)
    old = load_encoder(registry, settings.schema_dir, TRANSACTIONS)
    new = Encoder(parse_schema(text), registry.register(TRANSACTIONS, text))
    stream = Stream(9, 50, 20_300)
    block = stream.block(20_300)
    records = list(Records(stream).transactions(block.payments, block.positions))[:40]
    records = [record | {"transaction_id": f"evolved-{index}"} for index, record in enumerate(records)]
    delivery = Delivery(settings)
    for index, record in enumerate(records):
        value = new.encode(record | {"entry_mode": "chip"}) if index % 2 else old.encode(record)
        delivery.send_batch(TRANSACTIONS, [{"key": b"k", "value": value}])
    delivery.flush()
    assert_exactly_once_in_bronze(settings, TRANSACTIONS)
    ids = [r["transaction_id"] for r in records]
    rows = bronze_table("transactions").to_pyarrow_dataset().to_table(filter=pc.field("transaction_id").isin(ids))
    assert rows["entry_mode"].to_pylist().count("chip") == 20
    assert rows["entry_mode"].null_count == 20


def test_time_travel_to_an_earlier_version() -> None:
    now = bronze_table("transactions")
    assert "entry_mode" in column_names(now)
    before = next(
        table
        for version in range(now.version(), -1, -1)
        if "entry_mode" not in column_names(table := bronze_table("transactions", version))
    )
    assert 0 < before.to_pyarrow_dataset().count_rows() < now.to_pyarrow_dataset().count_rows()


def column_names(table: DeltaTable) -> list[str]:
    """The columns of a version of a table."""
    return [field.name for field in table.schema().fields]

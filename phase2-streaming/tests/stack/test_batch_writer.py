"""Batches into a local Delta table: each message once, whatever was there before and whatever the registry says.

They need a local Spark only, but minutes of it, so they are not among the unit tests.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from bronze_messages import EVOLVED, GOOD, NOW, TRANSACTION, avro
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import TRANSACTIONS
from pyspark.sql import DataFrame, SparkSession
from spark_jobs import batch_writer
from spark_jobs.batch_writer import BatchWriter
from spark_jobs.bronze_table import BronzeTable, columns, create, exists, next_offsets, record_topic_id, topic_id_of
from spark_jobs.kafka_topic import KafkaTopic
from spark_jobs.progress import SCHEMAS_REFUSED
from spark_jobs.quality_checks import TRANSACTION_RULES
from spark_jobs.schemas import TopicSchemas
from spark_jobs.settings import Settings
from spark_jobs.start_point import TopicRecreated

pytestmark = pytest.mark.stack

WITHOUT_CURRENCY = TRANSACTION | {"fields": [f for f in TRANSACTION["fields"] if f["name"] != "currency"]}


class Registry:
    """The registry's answers, without one."""

    url = "http://registry"

    def __init__(self) -> None:
        self.versions: dict[int, dict[str, Any]] = {1: TRANSACTION}
        self.deleted: dict[int, dict[str, Any]] = {}
        self.asked: list[int] = []

    def until_answered(self, ask: Any) -> Any:
        return ask()

    def known_versions(self, topic: str) -> list[tuple[int, str]]:
        return [(schema_id, json.dumps(schema)) for schema_id, schema in self.versions.items()]

    def schema(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        schema = (self.versions | self.deleted).get(schema_id)
        return schema and json.dumps(schema)


class Topic:
    """A topic's id, without a broker."""

    def __init__(self) -> None:
        self.id = "id-1"

    def topic_id(self) -> str:
        return self.id


class Bronze:
    """One Bronze table, its writer and what became dead letters."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.registry, self.topic = spark, Registry(), Topic()
        self.table = BronzeTable(TRANSACTIONS, TRANSACTION_RULES, str(folder / "table"), str(folder / "checkpoint"))
        self.dead: list[tuple[int, list[str]]] = []
        self.batch_id = -1
        self.start()

    def start(self, expect_again: dict[int, int] | None = None) -> None:
        """A new process: batch numbers go on."""
        schemas = TopicSchemas(
            self.spark,
            cast(SchemaRegistry, self.registry),
            TRANSACTIONS,
            lambda: columns(self.spark, self.table),
        )
        if not exists(self.spark, self.table):
            create(self.spark, self.table, schemas.current(), "id-1")
        settings = Settings(s3_secret_key="")
        self.writer = BatchWriter(self.spark, settings, self.table, cast(KafkaTopic, self.topic), schemas)
        self.writer.expect_again(expect_again or {})

    def write(self, values: list[bytes | None], first: int = 0) -> None:
        """A batch of one partition."""
        rows = [(b"key", value, 3, first + i, NOW, None) for i, value in enumerate(values)]
        batch = self.spark.createDataFrame(
            rows,
            "key binary, value binary, partition int, offset long, timestamp timestamp, "
            "headers array<struct<key: string, value: binary>>",
        )
        self.batch_id += 1
        self.writer.write(batch, self.batch_id)

    def rows(self) -> list[Any]:
        """The rows of the table in the order of their offsets."""
        return self.spark.read.format("delta").load(self.table.path).orderBy("kafka_offset").collect()

    def offsets(self) -> list[int]:
        return [row["kafka_offset"] for row in self.rows()]


@pytest.fixture
def bronze(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bronze]:
    bronze = Bronze(spark, tmp_path)

    def keep(rows: DataFrame, topic: str, servers: str) -> dict[str, int]:
        found = rows.select("kafka_offset", "reasons").orderBy("kafka_offset").collect()
        bronze.dead += [(row["kafka_offset"], row["reasons"]) for row in found]
        return {}

    monkeypatch.setattr(batch_writer, "send_dead_letters", keep)
    yield bronze


def test_batch_numbers_that_begin_again_skip_nothing(bronze: Bronze) -> None:
    """A6: as after the loss of a checkpoint."""
    for first in (0, 10):
        bronze.start()
        bronze.batch_id = -1
        bronze.write([avro(GOOD)], first)
        bronze.write([avro(GOOD)], first + 1)
    assert bronze.offsets() == [0, 1, 10, 11]


def test_what_an_unfinished_batch_left_is_not_written_again(bronze: Bronze) -> None:
    """The table has offsets 0 to 2, and the checkpoint knows of none of them."""
    bronze.write([avro(GOOD), b"", avro(GOOD)])
    bronze.start(next_offsets(bronze.spark, bronze.table, {3: 0}))
    bronze.batch_id = -1
    bronze.write([avro(GOOD), b""])
    bronze.write([avro(GOOD), avro(GOOD), b""], 2)
    bronze.write([avro(GOOD)], 5)
    assert bronze.offsets() == [0, 2, 3, 5]
    assert bronze.dead == [(1, ["value_empty"]), (1, ["value_empty"]), (4, ["value_empty"])]


def test_only_rows_from_the_position_on_are_looked_for(bronze: Bronze) -> None:
    bronze.write([avro(GOOD)] * 3)
    assert next_offsets(bronze.spark, bronze.table, {3: 1}) == {3: 3}
    assert next_offsets(bronze.spark, bronze.table, {3: 3, 4: 0}) == {}
    assert next_offsets(bronze.spark, bronze.table) == {3: 3}


def test_the_table_knows_which_topic_its_rows_come_from(bronze: Bronze) -> None:
    """A6."""
    assert topic_id_of(bronze.spark, bronze.table) == "id-1"
    record_topic_id(bronze.spark, bronze.table, "id-2")
    assert topic_id_of(bronze.spark, bronze.table) == "id-2"


def test_bronze_goes_on_when_a_version_without_currency_is_registered(bronze: Bronze) -> None:
    """C1."""
    bronze.write([avro(GOOD)])
    bronze.registry.versions[2] = WITHOUT_CURRENCY
    bronze.write([avro(GOOD), avro(GOOD, WITHOUT_CURRENCY, 2)], 1)
    assert SCHEMAS_REFUSED.labels(TRANSACTIONS)._value.get() == 1
    bronze.start()  # also a new process
    bronze.write([avro(GOOD)], 3)
    assert bronze.offsets() == [0, 1, 3]
    assert bronze.dead == [(2, ["schema_refused"])]
    assert {row["currency"] for row in bronze.rows()} == {"EUR"}
    del bronze.registry.versions[2]
    bronze.write([avro(GOOD)], 4)
    assert SCHEMAS_REFUSED.labels(TRANSACTIONS)._value.get() == 0


def test_bronze_goes_on_when_the_subject_is_deleted(bronze: Bronze) -> None:
    """C1, C3."""
    bronze.write([avro(GOOD)])
    bronze.registry.deleted, bronze.registry.versions = bronze.registry.versions, {}
    bronze.write([avro(GOOD)], 1)
    bronze.start()
    bronze.write([avro(GOOD)], 2)
    assert (bronze.offsets(), bronze.dead) == ([0, 1, 2], [])


def test_a_deleted_version_is_looked_up_by_its_id_and_garbage_is_asked_for_once(bronze: Bronze) -> None:
    """C3."""
    bronze.registry.deleted = {9: EVOLVED, 8: {"type": "record", "name": "Other", "fields": []}}
    garbage = [b"\0" + number.to_bytes(4, "big") + b"rest" for number in (8, 77, 2**32 - 1)]
    evolved = avro(GOOD | {"channel": "app"}, EVOLVED, 9)
    bronze.write([avro(GOOD), evolved, *garbage])
    bronze.write([evolved, *garbage], 5)
    assert [(row["kafka_offset"], row["channel"]) for row in bronze.rows()] == [(0, None), (1, "app"), (5, "app")]
    assert bronze.dead == [(offset, ["schema_unknown"]) for offset in (2, 3, 4, 6, 7, 8)]
    assert sorted(bronze.registry.asked) == [8, 9, 77]


def test_fields_that_versions_add_become_columns_and_stay(bronze: Bronze) -> None:
    """C1: also where the newest version has fewer fields than the others."""
    bronze.registry.versions = {5: EVOLVED, 1: TRANSACTION}
    bronze.write([avro(GOOD | {"channel": "app"}, EVOLVED, 5), avro(GOOD)])
    bronze.registry.versions[6] = TRANSACTION | {
        "fields": [f for f in TRANSACTION["fields"] if f["name"] != "metadata"]
    }
    bronze.write([avro(GOOD, bronze.registry.versions[6], 6)], 2)
    assert [(row["channel"], row["metadata"]) for row in bronze.rows()] == [
        ("app", {"a": "b"}),
        ("none", {"a": "b"}),
        ("none", {}),
    ]


def extra(kind: Any, name: str = "extra") -> dict[str, Any]:
    """Our schema with one more field."""
    return TRANSACTION | {"fields": [*TRANSACTION["fields"], {"name": name, "type": kind, "default": None}]}


def test_no_field_that_the_registry_accepts_stops_bronze(bronze: Bronze) -> None:
    """C1: it is stored, or the version is refused."""
    kinds = [
        "null",
        ["null", {"type": "array", "items": "null"}],
        ["null", {"type": "int", "logicalType": "time-millis"}],
        ["null", {"type": "fixed", "size": 12, "name": "Span", "logicalType": "duration"}],
        ["null", "com.fraudplatform.Transaction"],
        ["null", "string", "int", {"type": "map", "values": ["null", "double"]}],
        ["string", "null"],  # whose default is not of its first type
    ]
    bronze.registry.versions |= {number: extra(kind, f"extra{number}") for number, kind in enumerate(kinds, 2)}
    values = [avro(GOOD), *(avro(GOOD, TRANSACTION, number) + b"\0" for number in range(2, len(kinds) + 2))]
    bronze.write(values)
    bronze.write(values, len(values))
    both = [*bronze.offsets(), *(offset for offset, _ in bronze.dead)]
    assert sorted(both) == list(range(2 * len(values)))
    assert {0, 1, len(values), len(values) + 1} <= set(bronze.offsets())


def test_a_column_never_changes_its_type(bronze: Bronze) -> None:
    """C1: not even when the version that made the column is gone from the registry."""
    bronze.registry.versions = {1: TRANSACTION, 2: extra(["null", "string"])}
    bronze.write([avro(GOOD | {"extra": "x"}, extra(["null", "string"]), 2)])
    bronze.registry.versions = {1: TRANSACTION, 3: extra(["null", "long"])}
    bronze.start()
    bronze.write([avro(GOOD | {"extra": 7}, extra(["null", "long"]), 3), avro(GOOD)], 1)
    assert [(row["kafka_offset"], row["extra"]) for row in bronze.rows()] == [(0, "x"), (2, None)]
    assert bronze.dead == [(1, ["schema_refused"])]


def test_a_batch_of_another_topic_of_the_same_name_is_not_written(bronze: Bronze) -> None:
    """A6."""
    bronze.topic.id = "id-2"
    with pytest.raises(TopicRecreated):
        bronze.write([avro(GOOD)])
    assert bronze.rows() == []

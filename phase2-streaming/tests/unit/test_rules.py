"""The quality rules, one by one and in combination, and the decoding of versions and garbage, on a local Spark."""

import json
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bronze_messages import EVOLVED, GOOD, GOOD_LABEL, LABEL, NOW, TRANSACTION, avro
from pyspark.sql import SparkSession
from spark_jobs.bronze_rows import bad, bronze_rows, checked
from spark_jobs.dead_letters import dead_letters
from spark_jobs.quality_checks import LABEL_RULES, TRANSACTION_RULES
from spark_jobs.schemas import Schemas

TWO_VERSIONS = Schemas({1: json.dumps(TRANSACTION), 5: json.dumps(EVOLVED)}, json.dumps(EVOLVED))
LABELS = Schemas({2: json.dumps(LABEL)}, json.dumps(LABEL))


def kafka(spark: SparkSession, values: list[bytes | None], headers: list[tuple[str, bytes]] | None = None) -> Any:
    rows = [(b"key", value, 3, 100 + i, NOW + timedelta(hours=1), headers) for i, value in enumerate(values)]
    return spark.createDataFrame(
        rows,
        "key binary, value binary, partition int, offset long, timestamp timestamp, "
        "headers array<struct<key: string, value: binary>>",
    )


def reasons(spark: SparkSession, value: bytes | None, schemas: Schemas = TWO_VERSIONS, rules: Any = None) -> list[str]:
    (row,) = checked(kafka(spark, [value]), schemas, rules or TRANSACTION_RULES).collect()
    return row["reasons"]


def test_a_good_row_violates_no_rule(spark: SparkSession) -> None:
    assert reasons(spark, avro(GOOD)) == []
    assert reasons(spark, avro(GOOD_LABEL, LABEL, 2), LABELS, LABEL_RULES) == []


@pytest.mark.parametrize(
    ("change", "violated"),
    [
        ({"amount": Decimal("0")}, ["amount_not_positive"]),
        ({"amount": Decimal("-3.10")}, ["amount_not_positive"]),
        ({"user_id": ""}, ["user_id_missing"]),
        ({"user_id": "  "}, ["user_id_missing"]),
        ({"user_id": " u1"}, ["user_id_invalid"]),
        ({"user_id": "Ann Lee"}, []),
        ({"merchant_id": "m\0"}, ["merchant_id_invalid"]),
        ({"transaction_id": ""}, ["transaction_id_missing"]),
        ({"merchant_id": ""}, ["merchant_id_missing"]),
        ({"currency": "Euro"}, ["currency_invalid"]),
        ({"event_time": NOW + timedelta(hours=1, minutes=4)}, []),  # within the clocks' skew
        ({"event_time": NOW + timedelta(hours=1, minutes=6)}, ["event_time_in_future"]),
        ({"event_time": datetime(1999, 12, 31, tzinfo=UTC)}, ["event_time_invalid"]),
        (
            {"amount": Decimal("-1"), "user_id": "", "transaction_id": "", "event_time": NOW + timedelta(days=400)},
            {"transaction_id_missing", "user_id_missing", "event_time_in_future", "amount_not_positive"},
        ),
    ],
)
def test_each_rule_and_combinations(spark: SparkSession, change: dict[str, Any], violated: list[str]) -> None:
    assert set(reasons(spark, avro(GOOD | change))) == set(violated)


@pytest.mark.parametrize(
    ("change", "violated"),
    [
        ({"reported_at": NOW - timedelta(seconds=1)}, ["reported_before_event"]),
        ({"reported_at": NOW + timedelta(hours=2)}, ["reported_in_future"]),
        ({"user_id": "", "reported_at": NOW - timedelta(1)}, ["user_id_missing", "reported_before_event"]),
    ],
)
def test_label_rules(spark: SparkSession, change: dict[str, Any], violated: list[str]) -> None:
    assert reasons(spark, avro(GOOD_LABEL | change, LABEL, 2), LABELS, LABEL_RULES) == violated


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "value_empty"),
        (b"", "value_empty"),
        (b'{"transaction_id": "json"}', "not_wire_format"),
        (b"\0\0", "not_wire_format"),
        (struct.pack(">bI", 0, 999_999) + avro(GOOD)[5:], "schema_unknown"),
        (struct.pack(">bI", 0, 2**32 - 1) + avro(GOOD)[5:], "schema_unknown"),
        (avro(GOOD)[:-20], "undecodable"),
        (struct.pack(">bI", 0, 1) + b"\xff" * 40, "undecodable"),
        # A text and a map of two thousand million, for which no executor has the memory.
        (struct.pack(">bI", 0, 1) + b"\xfe\xff\xff\xff\x0f" + avro(GOOD)[6:], "undecodable"),
        (avro(GOOD | {"metadata": {}})[:-2] + b"\xfe\xff\xff\xff\x0f", "undecodable"),
    ],
)
def test_garbage_has_one_reason(spark: SparkSession, value: bytes | None, reason: str) -> None:
    assert reasons(spark, value) == [reason]


def test_a_refused_version_is_never_decoded(spark: SparkSession) -> None:
    """C1: never wrong values."""
    schemas = Schemas({1: json.dumps(TRANSACTION)}, json.dumps(TRANSACTION), {7: "amount: its type is ..."})
    assert reasons(spark, avro(GOOD, TRANSACTION, 7), schemas) == ["schema_refused"]
    assert reasons(spark, avro(GOOD, TRANSACTION, 1), schemas) == []


def test_without_any_version_every_message_is_unknown(spark: SparkSession) -> None:
    assert reasons(spark, avro(GOOD), Schemas({}, json.dumps(TRANSACTION))) == ["schema_unknown"]


@pytest.mark.parametrize("name", ["user_id", "city", "channel", "metadata", "merchant_category"])
def test_a_text_that_is_not_utf8_is_refused_wherever_it_is(spark: SparkSession, name: str) -> None:
    """fastavro refuses such a message, Spark's Avro reader does not."""
    record = GOOD | {"channel": "x", name: {"a": "?marker?"} if name == "metadata" else "?marker?"}
    value = avro(record, EVOLVED, 5).replace(b"?marker?", b"?mark\xff\xfe?")
    assert reasons(spark, value) == ["text_invalid"]


def test_two_schema_versions_in_one_batch_read_as_the_latest(spark: SparkSession) -> None:
    old, new = avro(GOOD), avro(GOOD | {"channel": "app"}, EVOLVED, 5)
    rows = bronze_rows(checked(kafka(spark, [old, new]), TWO_VERSIONS, TRANSACTION_RULES), None).collect()
    assert [(row["schema_id"], row["channel"]) for row in rows] == [(1, "none"), (5, "app")]
    assert rows[0]["amount"] == Decimal("12.50")
    assert rows[0]["event_time"].replace(tzinfo=UTC) == NOW
    assert rows[0]["metadata"] == {"a": "b"}
    assert (rows[0]["kafka_partition"], rows[0]["kafka_offset"], str(rows[0]["event_date"])) == (3, 100, "2026-03-01")


def test_late_events_are_marked_and_kept(spark: SparkSession) -> None:
    values = [avro(GOOD), avro(GOOD | {"event_time": NOW - timedelta(hours=3)})]
    rows = checked(kafka(spark, values), TWO_VERSIONS, TRANSACTION_RULES)
    late_before = (NOW - timedelta(hours=1)).replace(tzinfo=None)
    assert [row["is_late"] for row in bronze_rows(rows, late_before).collect()] == [False, True]
    assert [row["is_late"] for row in bronze_rows(rows, None).collect()] == [False, False]


@pytest.mark.parametrize("headers", [None, [], [("other", b"1")], [("dlq.attempts", b"many")]])
def test_without_a_readable_count_it_is_the_first_attempt(spark: SparkSession, headers: Any) -> None:
    rows = checked(kafka(spark, [b""], headers), TWO_VERSIONS, TRANSACTION_RULES)
    (letter,) = dead_letters(bad(rows), "transactions.raw").collect()
    assert {h["key"]: bytes(h["value"]) for h in letter["headers"]}["dlq.attempts"] == b"1"


def test_a_dead_letter_keeps_the_bytes_and_has_all_headers(spark: SparkSession) -> None:
    value = avro(GOOD | {"amount": Decimal("-1"), "user_id": ""})
    own = [("trace", b"\xff"), ("trace", b"2")]
    again = [own[0], ("dlq.attempts", b"2"), own[1]]
    rows = checked(kafka(spark, [avro(GOOD), value], again), TWO_VERSIONS, TRANSACTION_RULES)
    (letter,) = dead_letters(bad(rows), "transactions.raw").collect()
    every = [(h["key"], bytes(h["value"])) for h in letter["headers"]]
    assert every[:2] == own
    headers = {name: value.decode() for name, value in every[2:]}
    assert len(headers) == len(every) - 2
    assert (bytes(letter["key"]), bytes(letter["value"])) == (b"key", value)
    assert set(headers["dlq.reasons"].split(",")) == {"user_id_missing", "amount_not_positive"}
    source = [headers[f"dlq.{name}"] for name in ("stage", "topic", "partition", "offset", "attempts")]
    assert source == ["bronze", "transactions.raw", "3", "101", "3"]
    assert datetime.fromisoformat(headers["dlq.failed_at"]).tzinfo is not None

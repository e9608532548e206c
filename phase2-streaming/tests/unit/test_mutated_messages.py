"""Messages with faults of every kind through Bronze: each becomes a row or a dead letter with a reason.

FUZZ_MESSAGES says how many of each topic, FUZZ_SEED which: `make fuzz MESSAGES=100000`.
"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import pytest
from bronze_messages import GOOD, GOOD_LABEL, LABEL, NOW, TRANSACTION, avro
from fraud_common.avro import decode, schema_id_of
from fraud_common.payments import label_violations, payment_violations
from mutated_messages import MESSAGES, SEED, mutated
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from spark_jobs.bronze_rows import bad, bronze_rows, checked
from spark_jobs.dead_letters import dead_letters
from spark_jobs.quality_checks import LABEL_RULES, TRANSACTION_RULES
from spark_jobs.schemas import Schemas

ARRIVED = NOW + timedelta(hours=1)
TEXTS: dict[str, Any] = {"user_id": "Łukasz 7", "country": "", "metadata": {}, "merchant_category": "pub"}
TOPICS = {
    "transactions.raw": (TRANSACTION, 1, [avro(GOOD), avro(GOOD | TEXTS)], TRANSACTION_RULES, payment_violations),
    "transactions.labels": (
        LABEL,
        2,
        [avro(GOOD_LABEL, LABEL, 2), avro(GOOD_LABEL | {"is_fraud": False, "fraud_type": None}, LABEL, 2)],
        LABEL_RULES,
        label_violations,
    ),
}


@pytest.mark.parametrize("topic", TOPICS)
def test_each_message_is_a_row_or_a_dead_letter_with_a_reason(spark: SparkSession, topic: str) -> None:
    """And what Bronze takes, Python's decoder and rules take, so every consumer can read it."""
    schema, schema_id, originals, rules, violations = TOPICS[topic]
    values = list(mutated(originals, MESSAGES, SEED))
    batch = spark.createDataFrame(
        [(b"key", value, 3, number, ARRIVED, None) for number, value in enumerate(values)],
        "key binary, value binary, partition int, offset long, timestamp timestamp, "
        "headers array<struct<key: string, value: binary>>",
    )
    rows = checked(batch, Schemas({schema_id: json.dumps(schema)}, json.dumps(schema)), rules).cache()
    taken = {row.kafka_offset: row for row in bronze_rows(rows, None).collect()}
    refused = rows.where(F.size("reasons") > 0).select("kafka_offset", "reasons").collect()
    assert taken.keys().isdisjoint(row.kafka_offset for row in refused)
    assert len(taken) + len(refused) == MESSAGES and min(len(taken), len(refused)) > MESSAGES // 10
    print(topic, len(taken), Counter(reason for row in refused for reason in row.reasons).most_common())

    letters = dead_letters(bad(rows), topic).collect()
    for letter in letters:
        headers = {header.key: bytes(header.value).decode() for header in letter.headers}
        assert headers["dlq.reasons"] and bytes(letter.value) == values[int(headers["dlq.offset"])]
    assert len(letters) == len(refused)

    parsed = fastavro.parse_schema(dict(schema))
    for offset, row in taken.items():
        record = decode(values[offset], parsed)
        assert schema_id_of(values[offset]) == schema_id and violations(record, ARRIVED) == []
        assert {name: comparable(row[name]) for name in record} == {name: comparable(record[name]) for name in record}
    rows.unpersist()


def comparable(value: Any) -> Any:
    """Spark's times have no zone; and of a boolean whose byte is neither 0 nor 1, each decoder makes what it likes."""
    if isinstance(value, bool):
        return None
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value

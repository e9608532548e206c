"""Spark refuses the same payments and labels as Python, by the same names."""

from typing import Any

from fraud_common.payments import label_rules_sql, label_violations, payment_rules_sql, payment_violations
from payment_strategies import ARRIVED, generated, labels, payments
from pyspark.sql import SparkSession
from spark_jobs.quality_checks import rule_violations

TYPES = {
    "amount": "decimal(12,2)",
    "event_time": "timestamp",
    "reported_at": "timestamp",
    "kafka_timestamp": "timestamp",
    "is_fraud": "boolean",
    "is_international": "boolean",
}


def refused(spark: SparkSession, records: list[dict[str, Any]], rules: dict[str, str]) -> list[list[str]]:
    """The names of the rules that each record violates, as Spark sees it."""
    rows = [record | {"kafka_timestamp": ARRIVED, "number": number} for number, record in enumerate(records)]
    schema = ", ".join(f"{name} {TYPES.get(name, 'int' if name == 'number' else 'string')}" for name in rows[0])
    frame = spark.createDataFrame([tuple(row[name] for name in rows[0]) for row in rows], schema)
    found = frame.select("number", rule_violations(rules).alias("reasons")).collect()
    return [sorted(row.reasons) for row in sorted(found, key=lambda row: row.number)]


def test_payments(spark: SparkSession) -> None:
    records = generated(payments, 2_000)
    ours = [sorted(payment_violations(record, ARRIVED)) for record in records]
    assert 100 < sum(not violations for violations in ours) < len(records) - 100
    assert refused(spark, records, payment_rules_sql("spark")) == ours


def test_labels(spark: SparkSession) -> None:
    records = generated(labels, 2_000)
    ours = [sorted(label_violations(record, ARRIVED)) for record in records]
    assert 100 < sum(not violations for violations in ours) < len(records) - 100
    assert refused(spark, records, label_rules_sql("spark")) == ours

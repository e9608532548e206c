"""DuckDB refuses the same payments and labels as Python, by the same names: what replay refuses, Bronze would."""

from typing import Any

import duckdb
from fraud_common.payments import label_rules_sql, label_violations, payment_rules_sql, payment_violations
from payment_strategies import ARRIVED, generated, labels, payments

TYPES = {
    "amount": "decimal(14, 2)",
    "event_time": "timestamptz",
    "reported_at": "timestamptz",
    "is_fraud": "boolean",
    "is_international": "boolean",
}


def refused(records: list[dict[str, Any]], rules: dict[str, str]) -> list[list[str]]:
    """The names of the rules that each record violates, as DuckDB sees it."""
    names = list(records[0])
    with duckdb.connect() as connection:
        columns = ", ".join(f"{name} {TYPES.get(name, 'varchar')}" for name in names)
        connection.execute(f"create table records (number integer, kafka_timestamp timestamptz, {columns})")
        rows = [(number, ARRIVED, *(record[name] for name in names)) for number, record in enumerate(records)]
        connection.executemany(f"insert into records values ({', '.join('?' * (len(names) + 2))})", rows)
        found = connection.execute(
            f"select {', '.join(f'coalesce({condition}, false)' for condition in rules.values())}"
            " from records order by number"
        ).fetchall()
    return [sorted(name for name, violated in zip(rules, row, strict=True) if violated) for row in found]


def test_payments() -> None:
    records = generated(payments, 1_000)
    ours = [sorted(payment_violations(record, ARRIVED)) for record in records]
    assert 50 < sum(not violations for violations in ours) < len(records) - 50
    assert refused(records, payment_rules_sql("duckdb")) == ours


def test_labels() -> None:
    records = generated(labels, 1_000)
    ours = [sorted(label_violations(record, ARRIVED)) for record in records]
    assert 50 < sum(not violations for violations in ours) < len(records) - 50
    assert refused(records, label_rules_sql("duckdb")) == ours

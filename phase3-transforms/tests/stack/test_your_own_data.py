"""Data sets as people bring them, each legal in Bronze: no data test is red, and Gold has its features.

The last file, since it replaces Silver and Gold.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from fraud_common.trino import query
from lake import dbt, rows
from lakehouse.connection import lakehouse_cursor
from oracle import data_clock
from world import Batch, Bronze

START = pd.Timestamp(datetime(2021, 1, 1, tzinfo=UTC))
DAY = pd.Timedelta(days=1)


def payments(number: int, days: float, start: pd.Timestamp = START, **columns: Any) -> pd.DataFrame:
    """So many payments, evenly over so many days, with nothing but what is required."""
    times = start + pd.to_timedelta(np.linspace(0, days * 86_400_000, number).astype("int64"), unit="ms")
    standard = {
        "transaction_id": [f"payment {i}" for i in range(number)],
        "user_id": [f"customer {i % 50}" for i in range(number)],
        "amount": 12.34,
        "currency": "EUR",
        "merchant_id": [f"shop {i % 20}" for i in range(number)],
        "merchant_category": None,
        "country": None,
        "device_id": None,
        "device_type": None,
        "event_time": times,
        "is_international": False,
    }
    return pd.DataFrame(standard | columns)


def labels_of(chosen: pd.DataFrame) -> pd.DataFrame:
    """Fraud, reported a week later."""
    return chosen[["transaction_id", "user_id", "event_time"]].assign(
        is_fraud=True, fraud_type=None, reported_at=chosen["event_time"] + 7 * DAY
    )


def many() -> pd.DataFrame:
    """Enough payments of a few days for an estimate of the fraud rate, and some that let them mature."""
    later = payments(50, 0.5, START + 20 * DAY)
    return pd.concat([payments(10_100, 3), later.assign(transaction_id="later " + later["transaction_id"])])


def unlabelled() -> Batch:
    return _without_labels(many())


def nine_percent_fraud() -> Batch:
    """Some of the labels are of payments that are not in the file."""
    found = many()
    foreign = payments(3, 1, transaction_id=["x1", "x2", "x3"])
    return Batch(found, labels_of(pd.concat([found.sample(frac=0.09, random_state=1), foreign])))


def few() -> Batch:
    """Ten payments of a cent over two years by one user at one merchant, and two by others at the same moment."""
    mine = payments(10, 730, user_id="me", merchant_id="the corner shop", amount=0.01)
    others = payments(2, 0, user_id=["a", "b"], merchant_category=["never heard of", ""])
    return Batch(pd.concat([mine, others.assign(transaction_id=["x1", "x2"])]), labels_of(mine.head(1)))


def nothing() -> Batch:
    return _without_labels(payments(0, 0))


def _without_labels(found: pd.DataFrame) -> Batch:
    return Batch(found, labels_of(found.head(0)))


class DataSet(NamedTuple):
    """What is in Bronze, and the data tests that warn of it."""

    make: Callable[[], Batch]
    warnings: set[str]


@pytest.mark.parametrize(
    "data_set",
    [
        DataSet(unlabelled, {"assert_fraud_rate_is_steady"}),
        DataSet(nine_percent_fraud, {"assert_fraud_rate_is_steady", "assert_labels_have_transactions"}),
        DataSet(few, set()),
        DataSet(nothing, set()),
    ],
    ids=lambda data_set: data_set.make.__name__,
)
def test_legal_data_makes_no_test_red(data_set: DataSet) -> None:
    """D14: warnings at most."""
    name = data_set.make.__name__
    batch = data_set.make()
    bronze = Bronze(f"bronze/{name}")
    bronze.load(batch)
    with lakehouse_cursor() as trino:
        query(trino, f"create schema if not exists delta.{name} with (location = 's3://lakehouse/bronze/{name}')")
        for table in ("transactions", "labels"):
            query(
                trino, f"call delta.system.register_table('{name}', '{table}', 's3://lakehouse/bronze/{name}/{table}')"
            )
    variables = {"bronze_schema": name}
    dbt("seed", variables=variables)
    dbt("run", "--full-refresh", variables=variables)
    # And a run without news.
    dbt("run", variables=variables)
    output = dbt("test", "--exclude-resource-type", "unit_test", variables=variables)
    assert "ERROR=0" in output
    assert {test for test in data_set.warnings if f"Warning in test {test}" in output} == data_set.warnings
    assert f"WARN={len(data_set.warnings)} " in output

    found = rows("select user_id, as_of from gold.mart_fraud_features")
    assert set(found["user_id"]) == set(batch.transactions["user_id"])
    if len(found):
        assert set(found["as_of"]) == {data_clock(batch.transactions)}
    ((examples,),) = rows("select count(*) from gold.mart_training_examples").to_numpy().tolist()
    assert examples == _matured(batch.transactions)


def _matured(found: pd.DataFrame) -> int:
    return int((found["event_time"] <= data_clock(found) - 14 * DAY).sum()) if len(found) else 0

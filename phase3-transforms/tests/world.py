"""A small world with all difficulties: late payments, copies, two in one millisecond, wrong times, late and revised
labels, categories that some payments give.

Written as Bronze's Delta tables, batch by batch, as spark-streaming would; the oracle reads the same data frames.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from lake import BRONZE_STORAGE

START = datetime(2019, 3, 1, tzinfo=UTC)
DAYS = 75
USERS, MERCHANTS, PAYMENTS = 60, 45, 6000
DAY = timedelta(days=1)
# When Bronze says that it loaded the batches.
FIRST_LOAD_AGO, LOADS_APART = pd.Timedelta(hours=10), pd.Timedelta(hours=1)
# Of two payments in one batch, Kafka received the first one by so much earlier.
ARRIVALS_APART = np.timedelta64(1, "ms")
# As BRONZE_LATE_AFTER_MINUTES.
LATE_AFTER = pd.Timedelta(minutes=30)
# Two users with payments of wrong times: one of the world's, and one who has no others.
WRONG_TIME_USERS = ("u7", "u-wrong")
# In the seed, low and high; not in the seed; empty, as some senders write nothing.
CATEGORIES = ("fuel", "gaming", "lottery", "")

TRANSACTIONS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("user_id", pa.string()),
        ("amount", pa.decimal128(12, 2)),
        ("currency", pa.string()),
        ("merchant_id", pa.string()),
        ("merchant_name", pa.string()),
        ("merchant_category", pa.string()),
        ("country", pa.string()),
        ("city", pa.string()),
        ("device_id", pa.string()),
        ("device_type", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("is_international", pa.bool_()),
        ("metadata", pa.map_(pa.string(), pa.string())),
        ("schema_id", pa.int32()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("us", "UTC")),
        ("loaded_at", pa.timestamp("us", "UTC")),
        ("is_late", pa.bool_()),
        ("event_date", pa.date32()),
    ]
)
LABELS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("user_id", pa.string()),
        ("is_fraud", pa.bool_()),
        ("fraud_type", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("reported_at", pa.timestamp("us", "UTC")),
        *[TRANSACTIONS.field(name) for name in TRANSACTIONS.names[14:]],
    ]
)


@dataclass(frozen=True)
class Batch:
    """What Bronze gets between two runs of the pipeline."""

    transactions: pd.DataFrame
    labels: pd.DataFrame


def merchant_id(number: int) -> str:
    """An id of the simulator's first scheme, of its second, or one that the seed lacks."""
    return f"m{number:05d}" if number < 20 else f"M{number:03d}" if number < 35 else f"x{number}"


def make_payments(rng: np.random.Generator) -> pd.DataFrame:
    """All payments in the order of their event times; some share a millisecond with another of the same user."""
    milliseconds = np.sort(rng.integers(0, DAYS * 86_400_000, PAYMENTS))
    user = rng.zipf(1.3, PAYMENTS) % USERS
    twins = rng.choice(np.arange(1, PAYMENTS), 80, replace=False)
    milliseconds[twins], user[twins] = milliseconds[twins - 1], user[twins - 1]
    merchant = rng.zipf(1.4, PAYMENTS) % MERCHANTS
    return pd.DataFrame(
        {
            # Not in the order of time, so that an id says nothing about the time.
            "transaction_id": [f"t{i:06d}" for i in rng.permutation(PAYMENTS)],
            "user_id": [f"u{i}" for i in user],
            # Cents; the seed has merchants under the ids of the simulator's two schemes, the last ones are not in it.
            "amount": np.exp(rng.normal(4, 1.3, PAYMENTS)).round(2) + 0.01,
            "merchant_id": [merchant_id(i) for i in merchant],
            # Some countries and devices are not given: null in one, null or empty in the other.
            "country": rng.choice(["DE", "FR", "US", None], PAYMENTS, p=[0.7, 0.2, 0.07, 0.03]),
            "device_id": [
                (f"d{u}", f"shared-{u % 5}", "", None)[d]
                for u, d in zip(user, rng.integers(0, 4, PAYMENTS), strict=True)
            ],
            "device_type": rng.choice(["mobile", "web", "atm", "pos"], PAYMENTS),
            "event_time": pd.to_datetime(START) + pd.to_timedelta(milliseconds, unit="ms"),
            "is_international": rng.random(PAYMENTS) < 0.2,
            "merchant_category": np.where(rng.random(PAYMENTS) < 0.3, rng.choice(CATEGORIES, PAYMENTS), None),
            "currency": rng.choice(["EUR", "USD", "XXX"], PAYMENTS, p=[0.7, 0.2, 0.1]),
        }
    )


def make_wrong_times(payments: pd.DataFrame) -> pd.DataFrame:
    """Payments of the second batch by two users: in 2000, in a year between, at its arrival, four minutes later."""
    arrival = pd.Timestamp(datetime.now(UTC)).floor("ms") - FIRST_LOAD_AGO + 2 * LOADS_APART
    times = [pd.Timestamp("2000-01-01", tz="UTC"), pd.Timestamp("2012-06-30 23:59:59.999", tz="UTC"), arrival]
    times.append(arrival + pd.Timedelta(minutes=4))
    rows = payments.sample(len(times) * len(WRONG_TIME_USERS), random_state=5)
    return rows.assign(
        transaction_id=[f"wrong-{i}" for i in range(len(rows))],
        user_id=np.repeat(WRONG_TIME_USERS, len(times)),
        event_time=times * len(WRONG_TIME_USERS),
        merchant_category="lottery",
    )


def make_labels(payments: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Labels of a tenth of the payments after hours to weeks; some legitimate, some of the frauds cleared later."""
    labelled = payments.sample(frac=0.1, random_state=1)
    delay = pd.to_timedelta(np.clip(rng.lognormal(1.8, 0.8, len(labelled)), 0.1, 35), unit="D")
    fraud = rng.random(len(labelled)) < 0.85
    labels = labelled[["transaction_id", "user_id", "event_time"]].assign(
        is_fraud=fraud,
        fraud_type=np.where(fraud, "stolen_card", None),
        reported_at=(labelled["event_time"] + delay).dt.floor("ms"),
    )
    cleared = labels[labels["is_fraud"]].sample(frac=0.15, random_state=2)
    revised = cleared.assign(
        is_fraud=False, fraud_type=None, reported_at=cleared["reported_at"] + pd.Timedelta(days=4, hours=3)
    )
    return pd.concat([labels, revised], ignore_index=True)


def make_batches(seed: int) -> list[Batch]:
    """Three batches: most of the world; then also what came very late, with copies and wrong times; then the rest.

    Categories are in the second and third batch only: Bronze of the first has no column for them.
    """
    rng = np.random.default_rng(seed)
    payments = make_payments(rng)
    labels = make_labels(payments, rng)
    cuts = [pd.Timestamp(START + 55 * DAY), pd.Timestamp(START + 65 * DAY)]
    arrival = _batch_of(payments["event_time"], cuts)
    late = (arrival == 0) & (rng.random(PAYMENTS) < 0.01)
    arrival = np.where(late, rng.integers(1, 3, PAYMENTS), arrival)
    label_arrival = _batch_of(labels["reported_at"], cuts)
    late_label = (label_arrival == 0) & (rng.random(len(labels)) < 0.03)
    label_arrival = np.where(late_label, rng.integers(1, 3, len(labels)), label_arrival)
    batches = []
    for number in range(3):
        sent = payments[arrival == number]
        # Some come last in their batch.
        delayed = sent["transaction_id"].isin(sent["transaction_id"].sample(frac=0.01, random_state=number))
        sent = pd.concat([sent[~delayed], sent[delayed]])
        if number == 1:
            sent = pd.concat([sent, make_wrong_times(payments)])
        # Copies: within the batch, of earlier batches, and one that claims another amount.
        copies = payments[arrival <= number].sample(30, random_state=number)
        copies = copies.assign(amount=copies["amount"] + 1)
        sent = pd.concat([sent, copies], ignore_index=True)
        if number == 0:
            sent = sent.drop(columns="merchant_category")
        batches.append(Batch(sent, labels[label_arrival == number]))
    return batches


def _batch_of(times: pd.Series, cuts: list[pd.Timestamp]) -> np.ndarray:
    return sum((times > cut).to_numpy(int) for cut in cuts)


class Bronze:
    """Writes batches into Bronze, and remembers its rows."""

    def __init__(self, folder: str = "bronze") -> None:
        self._folder = folder
        self.transactions = pd.DataFrame()
        self.labels = pd.DataFrame()
        self._loads = 0

    def load(self, batch: Batch) -> None:
        """Append a batch to both tables; all its rows share the time at which they were loaded."""
        self._loads += 1
        loaded_at = pd.Timestamp(datetime.now(UTC)).floor("ms") - FIRST_LOAD_AGO + self._loads * LOADS_APART
        transactions = self._with_load_columns(batch.transactions, loaded_at, self.transactions)
        labels = self._with_load_columns(batch.labels, loaded_at, self.labels)
        transactions = transactions.assign(merchant_name="a shop", city="a city", metadata=[[]] * len(transactions))
        _append(f"{self._folder}/transactions", transactions, TRANSACTIONS)
        _append(f"{self._folder}/labels", labels, LABELS)
        self.transactions = pd.concat([self.transactions, transactions], ignore_index=True)
        self.labels = pd.concat([self.labels, labels], ignore_index=True)

    @staticmethod
    def _with_load_columns(rows: pd.DataFrame, loaded_at: pd.Timestamp, before: pd.DataFrame) -> pd.DataFrame:
        offset = len(before)
        is_late = rows["event_time"] < before["event_time"].max() - LATE_AFTER if offset else False
        return rows.assign(
            schema_id=1,
            kafka_partition=0,
            kafka_offset=np.arange(offset, offset + len(rows)),
            kafka_timestamp=pd.to_datetime(
                np.datetime64(loaded_at.tz_convert(None), "ms") - np.arange(len(rows), 0, -1) * ARRIVALS_APART, utc=True
            ),
            loaded_at=loaded_at,
            is_late=is_late,
            event_date=rows["event_time"].dt.date,
        )

    def silver(self) -> pd.DataFrame:
        """Payments without their copies: the first one loaded counts."""
        order = self.transactions.sort_values(["loaded_at", "kafka_partition", "kafka_offset"], kind="stable")
        return order.drop_duplicates("transaction_id")


def _append(path: str, rows: pd.DataFrame, schema: pa.Schema) -> None:
    rows = rows.assign(amount=[f"{a:.2f}" for a in rows["amount"]]) if "amount" in rows else rows
    schema = pa.schema([field for field in schema if field.name in rows])
    arrays = []
    for field in schema:
        values = rows[field.name]
        if pa.types.is_decimal(field.type):
            arrays.append(pa.array(values.tolist(), pa.string()).cast(field.type))
        elif pa.types.is_timestamp(field.type):
            arrays.append(pa.array(values.dt.tz_convert("UTC")).cast(field.type))
        else:
            arrays.append(
                pa.array([None if pd.api.types.is_scalar(v) and pd.isna(v) else v for v in values.tolist()], field.type)
            )
    write_deltalake(
        f"s3://lakehouse/{path}",
        pa.Table.from_arrays(arrays, schema=schema),
        mode="append",
        # As Spark does: a field that the table lacks is added to it.
        schema_mode="merge",
        partition_by=["event_date"],
        storage_options=BRONZE_STORAGE,
    )


def bronze_rows(table: str) -> int:
    """How many rows a table of Bronze has, read without Trino."""
    return (
        DeltaTable(f"s3://lakehouse/bronze/{table}", storage_options=BRONZE_STORAGE)
        .to_pyarrow_table(columns=["loaded_at"])
        .num_rows
    )

"""Reads training examples from Gold through Trino. Upstream is mart_training_examples; downstream are the models."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from features import TRAINING_COLUMNS, training_matrix
from fraud_common.errors import UserError
from fraud_common.trino import trino_cursor
from tqdm import tqdm
from trino.dbapi import Cursor
from trino.exceptions import Error as TrinoError

from training.examples import Examples, Periods, as_datetime64, periods
from training.sample import HASH_BITS, Counts, Sample, plan_sample, weigh_sample
from training.settings import Settings

TABLE = "mart_training_examples"
ROWS_AT_ONCE = 10_000
COLUMNS = ("transaction_id", "user_id", "event_time", "is_fraud", "fraud_type", "label_reported_at", *TRAINING_COLUMNS)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of a run, and where they came from, so that it can be repeated."""

    table: str
    version: int
    split: Periods
    examples: Examples


def load_dataset(settings: Settings) -> Dataset:
    """Read all frauds, all payments of the holdout, and the sample of legitimate payments of the training period.

    Raises:
        UserError: Trino does not answer, there are no examples, or too few frauds.
    """
    with _cursor(settings) as cursor:
        version = _first_row(cursor, f'select max(version) from "{TABLE}$history"')[0]
        source = f"{TABLE} for version as of {version}"
        split = _periods_of(cursor, source, settings.training_days)
        print_progress(
            f"examples of Delta version {version}: learn from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d}, "
            f"evaluate from {split.holdout_start:%Y-%m-%d} to {split.end:%Y-%m-%d}"
        )
        sample = plan_sample(settings, _count(cursor, source, split), split)
        examples = _read(cursor, source, split, sample)
    weigh_sample(examples, sample, split)
    return Dataset(f"delta.{settings.gold_schema}.{TABLE}", version, split, examples)


def print_progress(text: str) -> None:
    """A line for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def examples_of(rows: Sequence[Sequence[Any]]) -> Examples:
    """Rows of COLUMNS as arrays."""
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    return Examples(
        matrix=training_matrix(columns),
        is_fraud=np.array(columns["is_fraud"], dtype=bool),
        event_time=np.array([as_datetime64(moment) for moment in columns["event_time"]]),
        known_at=np.array([as_datetime64(moment) for moment in columns["label_reported_at"]]),
        user_id=np.array(columns["user_id"], dtype=object),
        fraud_type=np.array([name or "" for name in columns["fraud_type"]], dtype=object),
        weight=np.ones(len(rows)),
    )


@contextmanager
def _cursor(settings: Settings) -> Iterator[Cursor]:
    try:
        with trino_cursor(settings, user="training", schema=settings.gold_schema) as cursor:
            yield cursor
    except (TrinoError, OSError) as error:
        address = f"{settings.trino_host}:{settings.trino_port}"
        raise UserError(f"Trino at {address}: {error!s:.300}; look at: docker compose logs trino") from error


def _periods_of(cursor: Cursor, source: str, days: int) -> Periods:
    (end,) = _first_row(cursor, f"select max(event_time) from {source}")
    if end is None:
        raise UserError(
            "gold.mart_training_examples is empty: payments become examples 14 days after they happened; "
            "look at the newest run of fraud_pipeline in Airflow"
        )
    (start,) = _first_row(cursor, f"select min(event_time) from {source} where {_since(end - timedelta(days=days))}")
    return periods(start.astimezone(UTC), end.astimezone(UTC))


def _count(cursor: Cursor, source: str, split: Periods) -> Counts:
    training, holdout = _in_training(split), _in_holdout(split)
    frauds, legitimate, holdout_frauds, holdout_legitimate = _first_row(
        cursor,
        f"select count_if(is_fraud and {training}), count_if(not is_fraud and {training}),"
        f" count_if(is_fraud and {holdout}), count_if(not is_fraud and {holdout}) from {source}"
        f" where {_since(split.start)}",
    )
    return Counts(frauds, legitimate, holdout_frauds, holdout_legitimate)


def _read(cursor: Cursor, source: str, split: Periods, sample: Sample) -> Examples:
    bits = (1 << HASH_BITS) - 1
    drawn = f"bitwise_and(from_big_endian_64(xxhash64(to_utf8(transaction_id))), {bits}) < {sample.limit}"
    cursor.execute(
        f"select {', '.join(COLUMNS)} from {source} where {_since(split.start)}"
        f" and ({_in_holdout(split)} or ({_in_training(split)} and (is_fraud or {drawn})))"
    )
    parts: list[Examples] = []
    with tqdm(total=sample.expected_rows, desc="examples", unit=" rows", unit_scale=True, disable=None) as progress:
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            parts.append(examples_of(rows))
            progress.update(len(rows))
            if progress.disable and len(parts) % 10 == 0:
                done = sum(map(len, parts))
                print_progress(f"examples: {done:,} of about {sample.expected_rows:,} read")
    read = Examples.concatenate(parts)
    # Trino returns rows in any order; the same examples must give the same model.
    return read.where(np.lexsort((read.amount, read.event_time)))


def _first_row(cursor: Cursor, sql: str) -> Sequence[Any]:
    (row,) = cursor.execute(sql).fetchall()
    return row


def _since(moment: datetime) -> str:
    return f"event_date >= date '{moment.astimezone(UTC):%Y-%m-%d}' and event_time >= {_timestamp(moment)}"


def _in_training(split: Periods) -> str:
    return f"event_date <= date '{split.train_end:%Y-%m-%d}' and event_time < {_timestamp(split.train_end)}"


def _in_holdout(split: Periods) -> str:
    return f"event_time >= {_timestamp(split.holdout_start)}"


def _timestamp(moment: datetime) -> str:
    return f"timestamp '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC'"

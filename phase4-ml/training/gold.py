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
from trino.exceptions import TrinoUserError

from training.enough import (
    Counts,
    History,
    TooFewExamples,
    check_enough,
    holdout_minimum,
    leave_out_late_history,
    leave_out_warm_up,
    nothing_matured,
)
from training.examples import Examples, Periods, as_datetime64, periods, without_warm_up
from training.sample import HASH_BITS, Sample, plan_sample, weigh_sample
from training.settings import Settings

TABLE = "mart_training_examples"
SILVER = "silver.stg_transactions"
ROWS_AT_ONCE = 10_000
COLUMNS = ("transaction_id", "user_id", "event_time", "is_fraud", "fraud_type", "label_reported_at", *TRAINING_COLUMNS)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of a run, and where they came from, so that it can be repeated."""

    table: str
    version: int
    split: Periods
    # How many days of matured payments there are; the examples are from the last TRAINING_DAYS.
    history_days: int
    examples: Examples
    # What was decided about examples whose windows are not full, and about those whose history came late.
    warm_up: str
    late_history: str


def load_dataset(settings: Settings) -> Dataset:
    """Read all frauds, all payments of the holdout, and the sample of legitimate payments of the training period.

    Raises:
        UserError: Trino does not answer, or there are too few examples or frauds.
    """
    with _cursor(settings) as cursor:
        version = _first_row(cursor, f'select max(version) from "{TABLE}$history"')[0]
        source = f"{TABLE} for version as of {version}"
        history = _history(cursor, source)
        left_out, late_history = leave_out_late_history(history)
        print_progress(late_history)
        if left_out:
            source = f"(select * from {source} where not late_history)"
        split = _periods_of(cursor, source, settings, history)
        warm = without_warm_up(split, history.start)
        counts = _count(cursor, source, split)
        warm_counts = _count(cursor, source, warm) if warm != split else counts
        left_out, warm_up = leave_out_warm_up(settings, split, warm, warm_counts)
        if left_out:
            split, counts = warm, warm_counts
        print_progress(
            f"examples of Delta version {version}: learn from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d}, "
            f"evaluate from {split.holdout_start:%Y-%m-%d} to {split.end:%Y-%m-%d}; {warm_up}"
        )
        check_enough(settings, counts, split, history)
        sample = plan_sample(settings, counts)
        examples = _read(cursor, source, split, sample)
    weigh_sample(examples, sample, split)
    return Dataset(
        f"delta.{settings.gold_schema}.{TABLE}", version, split, int(history.days), examples, warm_up, late_history
    )


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


def _history(cursor: Cursor, source: str) -> History:
    start, end, payments, frauds, late_history = _first_row(
        cursor,
        f"select min(event_time), max(event_time), count(*), count_if(is_fraud), count_if(late_history) from {source}",
    )
    if not payments:
        raise TooFewExamples(nothing_matured(*_silver(cursor)))
    return History(start.astimezone(UTC), end.astimezone(UTC), payments, frauds, late_history)


def _silver(cursor: Cursor) -> tuple[int, datetime | None, datetime | None]:
    """How many payments there are in Silver, and their first and last event time."""
    try:
        payments, start, end = _first_row(cursor, f"select count(*), min(event_time), max(event_time) from {SILVER}")
    except TrinoUserError:
        # It has not been built.
        return 0, None, None
    return payments, start, end


def _periods_of(cursor: Cursor, source: str, settings: Settings, history: History) -> Periods:
    since = _since(history.end - timedelta(days=settings.training_days))
    (start,) = _first_row(cursor, f"select min(event_time) from {source} where {since}")
    (enough_since,) = _first_row(
        cursor,
        f"select min(event_time) from (select event_time from {source} where is_fraud and {since}"
        f" order by event_time desc limit {holdout_minimum(settings)})",
    )
    return periods(start.astimezone(UTC), history.end, enough_since and enough_since.astimezone(UTC))


def _count(cursor: Cursor, source: str, split: Periods) -> Counts:
    training, holdout = _in_training(split), _in_holdout(split)
    known = f"coalesce(label_reported_at <= {_timestamp(split.holdout_start)}, false)"
    frauds, legitimate, holdout_frauds, holdout_legitimate, late_frauds = _first_row(
        cursor,
        f"select count_if(is_fraud and {known} and {training}), count_if(not is_fraud and {training}),"
        f" count_if(is_fraud and {holdout}), count_if(not is_fraud and {holdout}),"
        f" count_if(is_fraud and not {known} and {training}) from {source}"
        f" where {_since(split.start)}",
    )
    return Counts(frauds, legitimate, holdout_frauds, holdout_legitimate, late_frauds)


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

"""Training examples: read from Gold through Trino, and split by time with the delay of labels respected."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from features import FEATURES, TRAINING_COLUMNS, training_matrix
from numpy.typing import NDArray
from tqdm import tqdm
from trino.dbapi import connect
from trino.exceptions import Error as TrinoError

from fraud_common.errors import UserError
from training.settings import Settings

TABLE = 'delta.gold."mart_training_examples"'
HISTORY = 'delta.gold."mart_training_examples$history"'
ROWS_AT_ONCE = 10_000
# Honest payments are drawn by a hash of their id: the same ones in every run.
HASH_BITS = 20

COLUMNS = ("transaction_id", "user_id", "event_time", "is_fraud", "fraud_type", "label_reported_at", *TRAINING_COLUMNS)


@dataclass(frozen=True, slots=True)
class Examples:
    """Training examples, n of them.

    Attributes:
        matrix: the model's input, shape (n, len(FEATURES)).
        is_fraud: the label.
        event_time: when the payment happened, UTC.
        known_at: when its label became known, UTC; not-a-time where none came.
        user_id: who paid.
        fraud_type: the scenario of a fraud, "" for honest payments.
        weight: how many payments of the population this one stands for.
    """

    matrix: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    event_time: NDArray[np.datetime64]
    known_at: NDArray[np.datetime64]
    user_id: NDArray[Any]
    fraud_type: NDArray[Any]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.is_fraud)

    @property
    def amount(self) -> NDArray[np.float64]:
        """Amounts, in each payment's own currency."""
        return self.matrix[:, FEATURES.index("amount")].astype(float)

    def where(self, chosen: NDArray[Any]) -> "Examples":
        """Those for which the mask holds, or those at these positions in their order."""
        return Examples(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Periods:
    """The periods that divide the examples: learn before `train_end`, judge from `holdout_start` to `end`."""

    start: datetime
    train_end: datetime
    holdout_start: datetime
    end: datetime


def periods(start: datetime, end: datetime) -> Periods:
    """Divide the time from the first to the newest settled payment.

    The holdout is the last week. The week before it is left out: in production, too, the newest payments that a model
    has learned from are a week old when it starts to serve, since their labels take that long (delay period of the
    Fraud Detection Handbook, chapter 5). Where there are less than four weeks, each takes a quarter.
    """
    week = min(timedelta(days=7), (end - start) / 4)
    return Periods(start, end - 2 * week, end - week, end)


def data_version(settings: Settings) -> tuple[int, datetime, datetime]:
    """The Delta version of the examples, and the first and newest event time within the last TRAINING_DAYS.

    Raises:
        UserError: Trino does not answer, or there are no examples.
    """
    ((version,),) = _query(settings, f"select max(version) from {HISTORY}")
    ((end,),) = _query(settings, f"select max(event_time) from {TABLE} for version as of {version}")
    if end is None:
        raise UserError(
            "gold.mart_training_examples is empty: payments become examples 14 days after they happened; "
            "look at the newest run of fraud_pipeline in Airflow"
        )
    earliest = end - timedelta(days=settings.training_days)
    ((start,),) = _query(
        settings,
        f"select min(event_time) from {TABLE} for version as of {version} "
        f"where event_date >= date '{earliest:%Y-%m-%d}' and event_time >= {_timestamp(earliest)}",
    )
    return version, start.astimezone(UTC), end.astimezone(UTC)


def load_examples(settings: Settings, version: int, split: Periods) -> Examples:
    """Read all frauds, all payments of the holdout, and of the training period as many honest ones as wanted.

    Raises:
        UserError: Trino does not answer, or there are fewer frauds than TRAINING_MINIMUM_FRAUDS.
    """
    source = f"{TABLE} for version as of {version}"
    in_training = f"event_date <= date '{split.train_end:%Y-%m-%d}' and event_time < {_timestamp(split.train_end)}"
    in_holdout = f"event_time >= {_timestamp(split.holdout_start)}"
    since = f"event_date >= date '{split.start:%Y-%m-%d}' and event_time >= {_timestamp(split.start)}"
    counts = _query(
        settings,
        f"select count_if(is_fraud and {in_training}), count_if(not is_fraud and {in_training}),"
        f" count_if(is_fraud and {in_holdout}), count_if(not is_fraud and {in_holdout}) from {source} where {since}",
    )
    frauds, honest, holdout_frauds, holdout_honest = counts[0]
    if min(frauds, 2 * holdout_frauds) < settings.training_minimum_frauds:
        raise UserError(
            f"too few frauds to learn from: {frauds} from {split.start:%Y-%m-%d} to {split.train_end:%Y-%m-%d} and "
            f"{holdout_frauds} in the holdout from {split.holdout_start:%Y-%m-%d}; at least "
            f"{settings.training_minimum_frauds} and half as many are needed. More history brings them, or a larger "
            f"TRAINING_DAYS ({settings.training_days})"
        )
    share = min(1.0, settings.training_honest_per_fraud * frauds / max(honest, 1))
    limit = round(share * (1 << HASH_BITS))
    drawn = f"bitwise_and(from_big_endian_64(xxhash64(to_utf8(transaction_id))), {(1 << HASH_BITS) - 1}) < {limit}"
    expected = frauds + holdout_frauds + holdout_honest + int(share * honest)
    examples = _read(
        settings,
        f"select {', '.join(COLUMNS)} from {source} where {since}"
        f" and ({in_holdout} or ({in_training} and (is_fraud or {drawn})))",
        expected,
    )
    sampled = ~examples.is_fraud & (examples.event_time < _naive(split.train_end))
    examples.weight[sampled] = (1 << HASH_BITS) / limit
    return examples


def split_by_time(examples: Examples, split: Periods) -> tuple[Examples, Examples]:
    """Training examples and holdout.

    A label that became known only after the training period had ended, and the week after it, was not there to learn
    from: such a fraud is an honest payment for the training, as it would have been on that day.
    """
    before = examples.event_time < _naive(split.train_end)
    train, holdout = examples.where(before), examples.where(examples.event_time >= _naive(split.holdout_start))
    known = train.known_at <= _naive(split.holdout_start)
    train.is_fraud[train.is_fraud & ~known] = False
    return train, holdout


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "ms")


def _timestamp(moment: datetime) -> str:
    return f"timestamp '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC'"


def _connection(settings: Settings) -> Any:
    return connect(host=settings.trino_host, port=settings.trino_port, user="training", catalog="delta", schema="gold")


def _query(settings: Settings, sql: str) -> list[Sequence[Any]]:
    try:
        with _connection(settings) as connection:
            return connection.cursor().execute(sql).fetchall()
    except (TrinoError, OSError) as error:
        raise _unanswered(settings, error) from error


def _unanswered(settings: Settings, error: Exception) -> UserError:
    message = str(error)
    if "does not exist" in message:
        return UserError("gold.mart_training_examples is not there yet: run the DAG fraud_pipeline, or make dbt-run")
    return UserError(
        f"Trino at {settings.trino_host}:{settings.trino_port}: {message:.300}; is it up? docker compose ps"
    )


def _read(settings: Settings, sql: str, expected: int) -> Examples:
    parts: list[Examples] = []
    try:
        with _connection(settings) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            progress = tqdm(total=expected, desc="examples", unit=" rows", unit_scale=True, disable=None)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                parts.append(_part(rows))
                progress.update(len(rows))
                if progress.disable and len(parts) % 10 == 0:
                    done = sum(map(len, parts))
                    print(f"examples: {done:,} of about {expected:,} read", file=sys.stderr, flush=True)
            progress.close()
    except (TrinoError, OSError) as error:
        raise _unanswered(settings, error) from error
    read = Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Examples.__slots__))
    # Trino gives rows in any order; the same examples are to give the same model.
    return read.where(np.lexsort((read.amount, read.event_time)))


def _part(rows: list[Sequence[Any]]) -> Examples:
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    return Examples(
        matrix=training_matrix(columns),
        is_fraud=np.array(columns["is_fraud"], dtype=bool),
        event_time=np.array([_naive(moment) for moment in columns["event_time"]]),
        known_at=np.array(
            [np.datetime64("NaT", "ms") if m is None else _naive(m) for m in columns["label_reported_at"]]
        ),
        user_id=np.array(columns["user_id"], dtype=object),
        fraud_type=np.array([name or "" for name in columns["fraud_type"]], dtype=object),
        weight=np.ones(len(rows)),
    )

"""Scores of the payments in the training examples by the model that serves, for backtests of rules.

python -m training.score_examples [--all]

Upstream is mart_training_examples, downstream rules/backtest/. A payment that the API has scored has a prediction; one
of a replayed or back-filled history has none. Only what has no score of this version yet is scored, day by day, the
newest first. Each chunk is one commit of Delta, so after a kill the next run continues, and no payment is scored twice.
A day with scores of another version is replaced. A payment whose features were corrected later keeps its score.

Delta is read and written directly: a million rows of 70 columns would keep Trino, which has little memory, busy for
minutes.
"""

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import mlflow
import numpy as np
from arro3.core import Array, DataType, RecordBatch, RecordBatchReader
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from features import FEATURES, TRAINING_COLUMNS, training_matrix
from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import load_settings
from fraud_common.trino import query, trino_cursor
from mlflow.entities.model_registry import ModelVersion
from trino.exceptions import TrinoQueryError

from training import registry
from training.gold import TABLE, print_progress
from training.registry import ServedModel
from training.settings import Settings

SCORES = "example_scores"
# Payments of one commit: about 60 MiB with their features.
CHUNK = 100_000
# What Trino calls it that a table is registered: Delta Lake's connector says the first, `create table` the second.
EXISTS_ALREADY = ("ALREADY_EXISTS", "TABLE_ALREADY_EXISTS")
# What the table has, and how an empty one is asked: a day of it is empty until its first payment is scored.
NO_SCORES = (
    "select '' as transaction_id, date '1970-01-01' as event_date, '' as model_version, 0.0 as fraud_probability,"
    " '' as risk_tier, false as learned where false"
)


class ScoringSettings(Settings):
    """Where the files of the lakehouse are, and in whose name they are read and written."""

    s3_endpoint: str = "http://minio:9000"
    s3_access_key: str = "training"
    s3_secret_key: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """The period that a model learned from; scores of payments in it flatter the model."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Scorer:
    """A version of the model."""

    version: str
    model: ServedModel
    # None: its run does not say.
    learned: Learned | None


@dataclass(frozen=True, slots=True)
class Day:
    """A day whose examples lack scores of a version; `replace`: it has scores of another one."""

    day: date
    missing: int
    replace: bool


class Lake:
    """The two tables: the examples as they are now, and their scores."""

    def __init__(self, examples: str, scores: str, options: dict[str, str] | None = None) -> None:
        """Open the examples.

        Args:
            examples: the address of mart_training_examples.
            scores: that of example_scores, which need not exist yet.
            options: how to reach them.

        Raises:
            UserError: there are no examples.
        """
        self._scores, self._options = scores, options
        try:
            self._examples = DeltaTable(examples, storage_options=options)
        except TableNotFoundError as error:
            raise UserError(f"there are no training examples at {examples}: build them with make dbt-run") from error

    def has_scores(self) -> bool:
        """Whether the table of scores exists."""
        return DeltaTable.is_deltatable(self._scores, storage_options=self._options)

    def newest_day(self) -> date | None:
        """The day of the newest examples; None if there are none."""
        ((newest,),) = self._rows("select max(event_date) from examples")
        return newest

    def days_to_score(self, version: str, since: date | None) -> list[Day]:
        """The days since then that lack scores of a version, the newest first."""
        condition = f"where event_date >= date '{since}'" if since else ""
        examples = dict(self._rows(f"select event_date, count(*) from examples {condition} group by event_date"))
        scored: dict[date, int] = {}
        others: set[date] = set()
        for day, scored_by, rows in self._rows("select event_date, model_version, count(*) from scores group by 1, 2"):
            if scored_by == version:
                scored[day] = rows
            else:
                others.add(day)
        days = [
            Day(day, rows if day in others else rows - scored.get(day, 0), day in others)
            for day, rows in sorted(examples.items(), reverse=True)
        ]
        return [day for day in days if day.missing > 0]

    def unscored(self, version: str, day: Day, learned: Learned | None) -> Iterable[RecordBatch]:
        """The examples of a day that have no score of a version: the columns of a score that are known, and features.

        A batch has some thousand rows.
        """
        in_period = (
            f"examples.event_time >= timestamp '{learned.start.isoformat()}'"
            f" and examples.event_time < timestamp '{learned.end.isoformat()}'"
            if learned
            else "cast(null as boolean)"
        )
        features = ", ".join(f"examples.{name}" for name in TRAINING_COLUMNS)
        same_day = f"event_date = date '{day.day}'"
        return self._query(
            f"select cast(examples.transaction_id as varchar) as transaction_id, {in_period} as learned, {features}"
            f" from examples where {same_day} and transaction_id not in"
            f" (select transaction_id from scores where {same_day} and model_version = '{version}')"
        )

    def add(self, scores: RecordBatch, day: Day, replace: bool) -> None:
        """Commit scores of a day; with `replace`, in the place of all that it has."""
        rows = RecordBatchReader.from_batches(scores.schema, [scores])
        if replace:
            write_deltalake(
                self._scores,
                rows,
                mode="overwrite",
                predicate=f"event_date = '{day.day}'",
                partition_by=["event_date"],
                storage_options=self._options,
            )
        else:
            write_deltalake(
                self._scores, rows, mode="append", partition_by=["event_date"], storage_options=self._options
            )

    def retire(self) -> int:
        """Delete the scores of days whose examples are gone; returns how many days that were."""
        scored = {day for (day,) in self._rows("select distinct event_date from scores")}
        gone = scored - {day for (day,) in self._rows("select distinct event_date from examples")}
        if gone:
            days = ", ".join(f"'{day}'" for day in sorted(gone))
            DeltaTable(self._scores, storage_options=self._options).delete(f"event_date in ({days})")
        return len(gone)

    def _query(self, sql: str) -> Iterable[RecordBatch]:
        builder = QueryBuilder().register("examples", self._examples)
        try:
            builder = builder.register("scores", DeltaTable(self._scores, storage_options=self._options))
        except TableNotFoundError:
            sql = f"with scores as ({NO_SCORES}) {sql}"
        return builder.execute(sql)

    def _rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        for batch in self._query(sql):
            yield from zip(*(batch.column(i).to_pylist() for i in range(batch.num_columns)), strict=True)


def score_days(lake: Lake, scorer: Scorer, days: list[Day]) -> int:
    """Score the payments of these days that have no score yet; returns how many those were."""
    total, done = sum(day.missing for day in days), 0
    for number, day in enumerate(days, start=1):
        replace = day.replace
        for scores in score_day(lake, scorer, day):
            lake.add(scores, day, replace)
            # What comes next of this day is added to it.
            replace = False
            done += scores.num_rows
        print_progress(f"scores: {day.day} done, {done:,} of {total:,} payments, day {number} of {len(days)}")
    return done


def score_day(lake: Lake, scorer: Scorer, day: Day) -> Iterator[RecordBatch]:
    """The scores that a day lacks, in chunks."""
    parts: list[RecordBatch] = []
    rows = 0
    for part in lake.unscored(scorer.version, day, scorer.learned):
        parts.append(part)
        rows += part.num_rows
        if rows >= CHUNK:
            yield scores_of(parts, scorer, day.day)
            parts, rows = [], 0
    if rows:
        yield scores_of(parts, scorer, day.day)


def scores_of(parts: list[RecordBatch], scorer: Scorer, day: date) -> RecordBatch:
    """The scores of some examples, rounded as in the API's answers; the tier is that of the exact score."""
    probabilities = scorer.model.scores(np.concatenate([_matrix(part) for part in parts]))
    rows = len(probabilities)
    tiers = np.select(
        [probabilities >= scorer.model.high, probabilities >= scorer.model.medium], ["high", "medium"], "low"
    )
    days = np.full(rows, (day - date(1970, 1, 1)).days, dtype=np.int32)
    return RecordBatch.from_pydict(
        {
            "transaction_id": _texts(value for part in parts for value in part.column("transaction_id").to_pylist()),
            "event_date": Array.from_numpy(days).cast(DataType.date32()),
            "model_version": _texts([scorer.version] * rows),
            "fraud_probability": Array.from_numpy(np.round(probabilities, 6)),
            "risk_tier": _texts(tiers.tolist()),
            "learned": Array(
                [value for part in parts for value in part.column("learned").to_pylist()], DataType.bool()
            ),
        }
    )


def _matrix(part: RecordBatch) -> np.ndarray:
    columns = {
        name: part.column(name).to_pylist() if name == "device_type" else part.column(name).to_numpy()
        for name in TRAINING_COLUMNS
    }
    return training_matrix(columns)


def _texts(values: Iterable[str]) -> Array:
    return Array(list(values), DataType.string())


def scorer_of(client: mlflow.MlflowClient, version: ModelVersion) -> Scorer:
    """The model of a version.

    Raises:
        UserError: it needs features that are gone.
    """
    folder = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="serving")
    model = ServedModel.read(folder)
    if missing := sorted(set(model.features) - set(FEATURES)):
        raise UserError(
            f"version {version.version} in Production needs features that are gone ({', '.join(missing)});"
            " train another one: make ml-train"
        )
    period = client.get_run(version.run_id).data.params
    learned = None
    if "learn_from" in period and "learn_until" in period:
        learned = Learned(datetime.fromisoformat(period["learn_from"]), datetime.fromisoformat(period["learn_until"]))
    return Scorer(str(version.version), model, learned)


def register(settings: ScoringSettings, location: str) -> None:
    """Let Trino know the scores; changes nothing if it does."""
    call = (
        f"call delta.system.register_table(schema_name => '{settings.gold_schema}',"
        f" table_name => '{SCORES}', table_location => '{location}')"
    )
    with trino_cursor(settings, user="training") as cursor:
        try:
            query(cursor, call)
        except TrinoQueryError as error:
            if error.error_name not in EXISTS_ALREADY:
                raise UserError(f"Trino can't register {location}: {error.message}") from error


def s3_options(settings: ScoringSettings) -> dict[str, str]:
    """How to reach the files."""
    return {
        "endpoint_url": settings.s3_endpoint,
        "region": "us-east-1",
        "allow_http": str(settings.s3_endpoint.startswith("http://")).lower(),
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
        # A commit that another writer has made meanwhile is not replaced.
        "conditional_put": "etag",
    }


@contextmanager
def clear_errors(location: str) -> Iterator[None]:
    """One sentence for what Delta, or the storage below it, refuses."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise UserError(
            f"{location}: {error!s:.300}; what is scored stays, and the next run continues: docker compose logs minio"
        ) from error


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.score_examples", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="all examples, not those of the last TRAINING_DAYS")
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(ScoringSettings)
        client = registry.connect(settings)
        version = registry.in_production(client)
        if version is None:
            print_progress("nothing is scored, since no model is in Production: make ml-train")
            return
        gold = f"s3://lakehouse/{settings.gold_schema}"
        with clear_errors(f"{gold}/{SCORES}"):
            lake = Lake(f"{gold}/{TABLE}", f"{gold}/{SCORES}", s3_options(settings))
            newest = lake.newest_day()
            if newest is None:
                print_progress("nothing is scored, since no payment has matured yet")
                return
            since = None if arguments.all else newest - timedelta(days=settings.training_days)
            scorer = scorer_of(client, version)
            days = lake.days_to_score(scorer.version, since)
            rows = score_days(lake, scorer, days)
            retired = lake.retire()
            scored = lake.has_scores()
        # Also when nothing was to be done: the run before may have been killed just before this.
        if scored:
            register(settings, f"{gold}/{SCORES}")
        print_progress(
            f"version {scorer.version}: {rows:,} payments of {len(days)} days scored, {retired} days retired"
            if days or retired
            else f"version {scorer.version}: all examples have a score"
        )


if __name__ == "__main__":
    main()

"""The archives of predictions in Gold, which Trino fills from Postgres: a Delta table for each table, by day.

Upstream is the catalogue `fraud`, which can only read; archive.py says what is added and when it may be dropped.
"""

import time
from datetime import datetime
from typing import NamedTuple

from fraud_common.days import SCHEMA, TABLES, Partition
from fraud_common.errors import UserError
from fraud_common.trino import query
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError

# How long the statement of a run that was killed may take to end.
LEFTOVER_SECONDS = 120

TEXT, NUMBER, WHOLE, TRUTH = "varchar", "double", "bigint", "boolean"
# Delta has no type for these: an id and JSON are text. Times are those of Delta as Trino knows them, in milliseconds.
ID, JSON, TIME = "id", "json", "time"
TYPES = {ID: "varchar", JSON: "varchar", TIME: "timestamp(3) with time zone"}


class Archive(NamedTuple):
    """The columns of a table, and the one that distinguishes its rows."""

    key: str
    columns: dict[str, str]


ARCHIVES = {
    "predictions": Archive(
        "prediction_id",
        {
            "prediction_id": ID,
            "transaction_id": TEXT,
            "user_id": TEXT,
            "merchant_id": TEXT,
            "amount": NUMBER,
            "is_international": TRUTH,
            "event_time": TIME,
            "fraud_probability": NUMBER,
            "risk_tier": TEXT,
            "model_version": TEXT,
            "feature_source": TEXT,
            "feature_age_seconds": NUMBER,
            "features": JSON,
            "latency_ms": NUMBER,
            "predicted_at": TIME,
            "position": WHOLE,
            "decision": TEXT,
            "queue": TRUTH,
            "ruleset_id": WHOLE,
            "rule_results": JSON,
            "held_out": TRUTH,
            "currency": TEXT,
            "country": TEXT,
            "device_id": TEXT,
            "device_type": TEXT,
            "merchant_category": TEXT,
            "unknown_features": TEXT,
        },
    ),
    "prediction_reasons": Archive(
        "prediction_id",
        {"prediction_id": ID, "predicted_at": TIME, "reasons": JSON, "unexplained": TEXT, "explained_at": TIME},
    ),
    "shadow_predictions": Archive(
        "position",
        {
            "position": WHOLE,
            "prediction_id": ID,
            "transaction_id": TEXT,
            "event_time": TIME,
            "model_version": TEXT,
            "fraud_probability": NUMBER,
            "risk_tier": TEXT,
            "scored_at": TIME,
        },
    ),
}


class Archives:
    """Adds rows to the archives; what Postgres has and an archive lacks is found by the key."""

    def __init__(self, trino: Cursor, schema: str = "gold") -> None:
        """Nothing is created yet.

        Args:
            schema: where the archives are.
        """
        self._trino = trino
        self._schema = schema
        self._ready: set[str] = set()

    def add(self, table: str, partition: Partition, begin: datetime, end: datetime) -> None:
        """Add the rows of a partition, from `begin` until before `end`, that are not archived yet, all or none."""
        self._prepare(table)
        columns = ARCHIVES[table].columns
        values = ", ".join(value(name, kind) for name, kind in columns.items())
        query(
            self._trino,
            f"insert into {self._name(table)} ({', '.join(columns)}, day)"
            f" select {values}, date '{begin.date()}' {self._not_archived(table, partition, begin, end)}",
        )

    def missing(self, table: str, partition: Partition, begin: datetime, end: datetime) -> int:
        """How many of these rows are not archived.

        Raises:
            UserError: one is archived twice.
        """
        self._prepare(table)
        key = ARCHIVES[table].key
        archived = (
            f"select count(*) - count(distinct {key}) from {self._name(table)} where {at(TABLES[table], begin, end)}"
        )
        ((missing, twice),) = query(
            self._trino,
            f"select (select count(*) {self._not_archived(table, partition, begin, end)}),"
            f" ({archived} and day = date '{begin.date()}')",
        )
        if twice:
            raise UserError(f"{self._name(table)} has {twice} rows of {begin:%Y-%m-%d %H} h twice; none is dropped")
        return missing

    def _name(self, table: str) -> str:
        return f"delta.{self._schema}.{table}_archive"

    def _not_archived(self, table: str, partition: Partition, begin: datetime, end: datetime) -> str:
        key = ARCHIVES[table].key
        return (
            f"from fraud.{SCHEMA}.{partition.name} where {at(TABLES[table], begin, end)}"
            f" and {value(key, ARCHIVES[table].columns[key])} not in"
            f" (select {key} from {self._name(table)}"
            f" where day = date '{begin.date()}' and {at(TABLES[table], begin, end)})"
        )

    def _prepare(self, table: str) -> None:
        """Create the archive if need be, and end what a killed run has left: it would add the same rows."""
        if table in self._ready:
            return
        self._end_leftovers(table)
        columns = ", ".join(f"{name} {TYPES.get(kind, kind)}" for name, kind in ARCHIVES[table].columns.items())
        query(
            self._trino,
            f"create schema if not exists delta.{self._schema} with (location = 's3://lakehouse/{self._schema}')",
        )
        query(
            self._trino,
            f"create table if not exists {self._name(table)} ({columns}, day date)"
            " with (partitioned_by = array['day'])",
        )
        self._add_columns(table)
        self._ready.add(table)

    def _add_columns(self, table: str) -> None:
        """Those that the archive of an earlier release lacks; its rows have NULL there."""
        known = query(
            self._trino,
            "select column_name from delta.information_schema.columns"
            f" where table_schema = '{self._schema}' and table_name = '{table}_archive'",
        )
        for name, kind in ARCHIVES[table].columns.items():
            if [name] not in known:
                query(self._trino, f"alter table {self._name(table)} add column {name} {TYPES.get(kind, kind)}")

    def _end_leftovers(self, table: str) -> None:
        end = time.monotonic() + LEFTOVER_SECONDS
        while running := query(
            self._trino,
            "select query_id from system.runtime.queries where state not in ('FINISHED', 'FAILED')"
            f" and starts_with(query, 'insert into {self._name(table)} ')",
        ):
            for (query_id,) in running:
                self._kill(query_id)
            if time.monotonic() > end:
                raise UserError(
                    f"Trino still runs {running[0][0]} of an earlier run; end it in Trino's page, then try again"
                )
            time.sleep(1)

    def _kill(self, query_id: str) -> None:
        try:
            query(
                self._trino,
                f"call system.runtime.kill_query(query_id => '{query_id}', message => 'left by a run that was killed')",
            )
        except TrinoQueryError as error:
            # It has ended meanwhile, or is ending.
            if error.error_name not in ("NOT_SUPPORTED", "NOT_FOUND"):
                raise


def value(name: str, kind: str) -> str:
    """A column of Postgres as it is archived."""
    match kind:
        case "id":
            return f"cast({name} as varchar)"
        case "json":
            return f"json_format({name})"
        case "time":
            # Cut off, not rounded: the row stays in its hour.
            return f"cast(date_trunc('millisecond', {name}) as {TYPES[TIME]})"
        case _:
            return name


def at(column: str, begin: datetime, end: datetime) -> str:
    """The condition that a time is from `begin` until before `end`, both in UTC."""
    first, after = (each.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds") for each in (begin, end))
    return f"{column} >= timestamp '{first} UTC' and {column} < timestamp '{after} UTC'"

"""The tables of the fraud database that have a partition for each day of the wall clock, in the schema `days`.

The first row of a day creates its partitions, so none are made in advance, and a day that a wrong
clock says has one too. The nightly maintenance archives what is old, and drops it (lakehouse/archive.py).

The days are those of the clock that stored a row, not of the data: event times may be of any year.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg2.extensions import cursor as Cursor

# By the name of the table: the column that says the day, in UTC.
TABLES = {"predictions": "predicted_at", "prediction_reasons": "predicted_at", "shadow_predictions": "scored_at"}
SCHEMA = "days"

# Until the transaction ends, no other one creates or drops partitions: a day that was just created stays.
CHANGING = "select pg_advisory_xact_lock(hashtext('days'))"

_PARTITIONS = """
select child.relname, pg_get_expr(child.relpartbound, child.oid)
from pg_inherits
join pg_class as child on child.oid = inhrelid
where inhparent = to_regclass(%s)
"""
_BOUNDS = re.compile(r"FROM \((?:'([^']+)'|MINVALUE)\) TO \('([^']+)'\)")


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows of a table from `begin` (None: from the beginning) until before `end`."""

    name: str
    begin: datetime | None
    end: datetime

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return f"{SCHEMA}.{self.name}"

    def has(self, day: date) -> bool:
        """Whether rows of a day belong here."""
        begin = midnight(day)
        return (self.begin is None or self.begin <= begin) and begin < self.end


def midnight(day: date) -> datetime:
    """When a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def partitions(cursor: Cursor, table: str) -> list[Partition]:
    """The partitions of a table, the oldest first; none if there is no such table."""
    # The server writes bounds in the time zone of the session.
    cursor.execute("set local time zone 'UTC'")
    cursor.execute(_PARTITIONS, (table,))
    return sorted((_partition(*row) for row in cursor.fetchall()), key=lambda partition: partition.end)


def _partition(name: str, bounds: str) -> Partition:
    found = _BOUNDS.search(bounds)
    if not found:
        raise ValueError(f"{SCHEMA}.{name}: its bounds are {bounds}")
    begin, end = found.groups()
    return Partition(name, datetime.fromisoformat(begin) if begin else None, datetime.fromisoformat(end))


def create_days(cursor: Cursor, days: Iterable[date], tables: Iterable[str]) -> None:
    """Create the partitions of these days that are missing; readers and writers do not wait for it.

    Until the transaction of the cursor ends, they are not dropped.
    """
    cursor.execute(CHANGING)
    wanted = sorted(set(days))
    for table in tables:
        existing = partitions(cursor, table)
        for day in wanted:
            if not any(partition.has(day) for partition in existing):
                _create_day(cursor, table, day)


def _create_day(cursor: Cursor, table: str, day: date) -> None:
    # Attached when it is complete: `create table ... partition of` would wait for every query on the table.
    name = f"{SCHEMA}.{table}_{day:%Y_%m_%d}"
    cursor.execute(f"create table {name} (like {table} including all)")
    cursor.execute(
        f"alter table {table} attach partition {name} for values from (%s) to (%s)",
        (midnight(day), midnight(day + timedelta(days=1))),
    )

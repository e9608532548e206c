"""Predictions, their reasons and shadow scores have a partition for each day, so that old days can be dropped.

A table with rows becomes a partition itself, with all that was stored until some days after this migration: nothing is
copied. What takes long, the indexes and the check that such a partition needs, is done while the table is in use; then
all three tables change hands in one transaction. Before that, a kill leaves what the next run uses or does again.
"""

import logging
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from alembic import op
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

revision = "3"
down_revision = "2"

log = logging.getLogger("fraud_db")

TABLES = {"predictions": "predicted_at", "prediction_reasons": "predicted_at", "shadow_predictions": "scored_at"}
# By table: (name, kind, what). A unique index of a partitioned table has the column that divides it.
INDEXES = {
    "predictions": [
        ("predictions_of_id", "unique index", "(prediction_id, predicted_at)"),
        ("predictions_in_order", "index", "(position)"),
        ("predictions_of_transaction", "index", "(transaction_id, predicted_at)"),
        ("predictions_predicted_at", "index", "(predicted_at)"),
    ],
    "prediction_reasons": [
        ("prediction_reasons_of_id", "unique index", "(prediction_id, predicted_at)"),
        ("prediction_reasons_waiting", "index", "(predicted_at) where reasons is null"),
    ],
    "shadow_predictions": [
        ("shadow_predictions_in_order", "index", "(position)"),
        ("shadow_predictions_of_transaction", "index", "(transaction_id)"),
    ],
}
# These did the same for the whole table.
REPLACED = """
alter table predictions drop constraint if exists predictions_pkey;
drop index if exists predictions_by_position;
alter table prediction_reasons drop constraint if exists prediction_reasons_pkey;
alter table shadow_predictions drop constraint if exists shadow_predictions_pkey;
"""
# The check refuses later rows. The days between are for the case that somebody kills this, and continues another day.
DAYS_AHEAD = 7
LOCK_ATTEMPTS = 150


def upgrade() -> None:
    """Make the tables ready, then replace them by partitioned ones."""
    op.execute("create schema if not exists days")
    ends = {table: _end(table, column) for table, column in TABLES.items()}
    for table, end in ends.items():
        _add_check(table, end)
    # Commits what is done, and begins the next transaction at its end.
    with op.get_context().autocommit_block():
        for table in TABLES:
            log.info("%s: checking its rows", table)
            op.execute(f"alter table {table} validate constraint {table}_end")
            for index in INDEXES[table]:
                _add_index(table, *index)
        # For the deletion of old labels: small, and enough, since rows are in the order of this column.
        _add_index("labels", "labels_stored_at", "index", "using brin (stored_at)")
    _patiently(lambda: op.execute(f"lock table {', '.join(TABLES)} in access exclusive mode"))
    op.execute(REPLACED)
    for table in TABLES:
        _replace(table, ends[table])


def _end(table: str, column: str) -> date:
    """The first day that a partition with all rows of a table has no part in."""
    return _value(
        f"select greatest((now() at time zone 'UTC')::date + {DAYS_AHEAD}, "
        f"(max({column}) at time zone 'UTC')::date + 1) from {table}"
    )


def _add_check(table: str, end: date) -> None:
    """Begin to show by a check that the table's rows are a partition's, so that they need not be read under a lock."""
    _patiently(
        lambda: op.execute(
            f"alter table {table} drop constraint if exists {table}_end, "
            f"add constraint {table}_end check ({TABLES[table]} < '{end} 00:00+00') not valid"
        )
    )


def _add_index(table: str, name: str, kind: str, what: str) -> None:
    # What a kill has left is not valid.
    if _value(f"select count(*) from pg_index where indexrelid = to_regclass('{name}') and not indisvalid"):
        op.execute(f"drop index concurrently {name}")
    log.info("%s: creating %s %s", table, kind, name)
    op.execute(f"create {kind} concurrently if not exists {name} on {table} {what}")


def _replace(table: str, end: date) -> None:
    """Put a partitioned table in the place of one that becomes its first partition, or goes if it has no rows."""
    old = f"{table}_until_{end:%Y_%m_%d}"
    op.execute(f"alter table {table} set schema days")
    op.execute(f"alter table days.{table} rename to {old}")
    op.execute(f"create table {table} (like days.{old} including defaults) partition by range ({TABLES[table]})")
    for name, kind, what in INDEXES[table]:
        op.execute(f"create {kind} {name} on {table} {what}")
    if _value(f"select exists (select from days.{old})"):
        op.execute(f"alter table {table} attach partition days.{old} for values from (minvalue) to ('{end} 00:00+00')")
        op.execute(f"alter table days.{old} drop constraint {table}_end")
    else:
        op.execute(f"drop table days.{old}")


def _patiently(execute: Callable[[], None]) -> None:
    """Take a lock that waits for every query on a table, in short attempts: behind each, others wait too."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            with op.get_bind().begin_nested():
                op.execute("set local lock_timeout = '2s'")
                execute()
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected) or attempt == LOCK_ATTEMPTS - 1:
                raise
            log.info("waiting for a query on the tables to end")
            time.sleep(2)


def _value(query: str) -> Any:
    return op.get_bind().execute(text(query)).scalar()

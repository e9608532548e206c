"""Moves what is older than PREDICTIONS_RETENTION_DAYS from the fraud database to Delta: archived first, then dropped.

python -m lakehouse.archive

Upstream are the daily partitions of Postgres (fraud_common/days.py), downstream gold.predictions_archive and its
siblings. A kill at any point loses nothing and doubles nothing: what an archive has already is not added again, and a
partition is dropped only in a transaction that has found as many rows in it as were archived.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import psycopg2
from fraud_common.days import CHANGING, TABLES, Partition, midnight, partitions
from fraud_common.errors import UserError, one_line_errors
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, load_settings
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from psycopg2.extensions import connection as Connection
from pydantic import Field

from lakehouse.connection import lakehouse_cursor
from lakehouse.prediction_archives import Archives

log = logging.getLogger(__name__)

# Archived at once: some hundred thousand rows at 100 payments a second, which Trino compares in memory.
SLICE = timedelta(hours=1)
# While a partition waits to be dropped behind a query, what is stored waits behind it.
LOCK_TIMEOUT = "2s"
LOCK_ATTEMPTS = 60
SECONDS_BETWEEN_ATTEMPTS = 5.0
# Labels that are deleted in one transaction.
CHUNK = 10_000

# The second run of two at the same time ends; Postgres forgets the lock of one that is killed.
ONLY_ONE = "select pg_try_advisory_lock(hashtext('archive'))"
DELETE_LABELS = """
delete from labels
where transaction_id in (select transaction_id from labels where stored_at < %s limit %s)
"""


class ArchiveSettings(PostgresSettings):
    """How long Postgres keeps predictions and labels."""

    predictions_retention_days: int = Field(default=30, ge=1)


class Lake(Protocol):
    """Where rows are archived."""

    def add(self, table: str, partition: Partition, begin: datetime, end: datetime) -> None:
        """Add the rows of a partition, from `begin` until before `end`, that are not archived yet, all or none."""

    def missing(self, table: str, partition: Partition, begin: datetime, end: datetime) -> int:
        """How many of these rows are not archived.

        Raises:
            UserError: one is archived twice.
        """


def archive_old(connection: Connection, lake: Lake, today: date, keep_days: int) -> str:
    """Archive and drop every partition whose rows are all older, and delete labels that were stored before then.

    Labels are in Bronze, so they are not archived.

    Args:
        today: by the clock that stores, in UTC.
        keep_days: that many whole days before today are kept.

    Returns:
        a sentence for the log.

    Raises:
        UserError: another run is under way, or a query keeps a partition from being dropped.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(ONLY_ONE)
        ((first,),) = cursor.fetchall()
        if not first:
            raise UserError("another run archives predictions; wait for its end, then try again")
        cursor.execute("select to_regclass('alembic_version') is not null and to_regnamespace('days') is not null")
        ((exists,),) = cursor.fetchall()
    if not exists:
        return "nothing to archive: the fraud database has no predictions yet (make phase4-up)"
    oldest_kept = midnight(today - timedelta(days=keep_days))
    rows = sum(_archive_table(connection, lake, table, oldest_kept) for table in TABLES)
    labels = _delete_labels(connection, oldest_kept)
    return (
        f"kept: everything since {oldest_kept:%Y-%m-%d}; archived and dropped {rows:,} rows, deleted {labels:,} labels"
    )


def _archive_table(connection: Connection, lake: Lake, table: str, oldest_kept: datetime) -> int:
    with connection, connection.cursor() as cursor:
        old = [partition for partition in partitions(cursor, table) if partition.end <= oldest_kept]
    return sum(_archive_partition(connection, lake, table, partition) for partition in old)


def _archive_partition(connection: Connection, lake: Lake, table: str, partition: Partition) -> int:
    started = time.monotonic()
    for _ in range(LOCK_ATTEMPTS):
        rows = _archive_rows(connection, lake, table, partition)
        try:
            if _drop(connection, partition, rows):
                log.info("%s: %d rows archived, dropped (%.1f s)", partition.name, rows, time.monotonic() - started)
                return rows
            log.info("%s: rows were stored meanwhile", partition.name)
        except (LockNotAvailable, DeadlockDetected):
            log.info("%s: waiting for a query on %s to end", partition.name, table)
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    raise UserError(
        f"{partition.name} is archived but not dropped, since queries on {table} do not end: pg_stat_activity"
    )


def _archive_rows(connection: Connection, lake: Lake, table: str, partition: Partition) -> int:
    """Archive what is in a partition now; returns how many rows that are."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            f"select date_trunc('hour', {TABLES[table]}, 'UTC') as slice, count(*) from {partition.sql}"
            " group by slice order by slice"
        )
        slices = cursor.fetchall()
    for at, _ in slices:
        # The server answers in its own time zone.
        begin = at.astimezone(UTC)
        end = begin + SLICE
        # Twice, since rows may be stored between the two.
        for _ in range(2):
            lake.add(table, partition, begin, end)
            missing = lake.missing(table, partition, begin, end)
            if not missing:
                break
        else:
            raise UserError(
                f"{partition.name}: {missing} rows of {begin:%Y-%m-%d %H} h are not archived; none is dropped"
            )
    return sum(rows for _, rows in slices)


def _drop(connection: Connection, partition: Partition, rows: int) -> bool:
    """Drop a partition if it still has so many rows."""
    with connection, connection.cursor() as cursor:
        cursor.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute(CHANGING)
        cursor.execute(f"lock table {partition.sql} in share row exclusive mode")
        cursor.execute(f"select count(*) from {partition.sql}")
        ((now,),) = cursor.fetchall()
        if now != rows:
            return False
        cursor.execute(f"drop table {partition.sql}")
        return True


def _delete_labels(connection: Connection, before: datetime) -> int:
    deleted = 0
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute(DELETE_LABELS, (before, CHUNK))
            rows = cursor.rowcount
        deleted += rows
        if rows < CHUNK:
            return deleted


@contextmanager
def fraud_database(settings: PostgresSettings) -> Iterator[Connection]:
    """A connection to the fraud database.

    Raises:
        UserError: Postgres does not answer, or ends the connection.
    """
    try:
        connection = connect(settings, "archive")
        try:
            yield connection
        finally:
            connection.close()
    except psycopg2.OperationalError as error:
        raise UserError(
            f"Postgres at {settings.postgres_host}: {str(error).strip()}; docker compose logs postgres"
        ) from error


def archive_predictions() -> str:
    """Archive and drop what is older than the settings say.

    Returns:
        a sentence for the log.
    """
    settings = load_settings(ArchiveSettings)
    with fraud_database(settings) as connection, lakehouse_cursor() as trino:
        return archive_old(connection, Archives(trino), datetime.now(UTC).date(), settings.predictions_retention_days)


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m lakehouse.archive", description=__doc__.splitlines()[0]).parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        log.info(archive_predictions())


if __name__ == "__main__":
    main()

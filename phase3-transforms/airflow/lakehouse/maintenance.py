"""Housekeeping of the tables of bronze, silver and gold: compact, vacuum, drop what crashed dbt runs left behind.

python -m lakehouse.maintenance compact | vacuum | leftovers
"""

import argparse
import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fraud_common.errors import UserError, one_line_errors
from fraud_common.trino import query
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError

from lakehouse.connection import lakehouse_cursor

log = logging.getLogger(__name__)

SCHEMAS = ("bronze", "silver", "gold")
# Files below this size are rewritten into larger ones, in tables or partitions that have more files than that.
SMALL_FILE = "32MB"
FEW_FILES = 8
# The least that Trino allows: readers of older versions of a table may still be at work.
RETENTION = "7d"
# dbt-run locks it while dbt runs.
DBT_LOCK = Path("/var/lib/dbt/lock")


class Table(NamedTuple):
    """A table of the lakehouse."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """Its name in a statement."""
        return self.metadata("")

    def metadata(self, kind: str) -> str:
        """The name of one of its metadata tables, such as $partitions."""
        return f'delta.{self.schema}."{self.name}{kind}"'


def tables(trino: Cursor, kind: str = "BASE TABLE") -> list[Table]:
    """All tables (or, with another kind, views) of the schemas that exist."""
    rows = query(
        trino,
        "select table_schema, table_name from delta.information_schema.tables"
        f" where table_schema in {SCHEMAS} and table_type = '{kind}' order by 1, 2",
    )
    return [Table(*row) for row in rows]


def is_leftover(table: Table) -> bool:
    """Whether a table only exists while dbt builds a model."""
    return table.name.endswith(("__dbt_tmp", "__dbt_backup"))


def lasting(found: list[Table]) -> list[Table]:
    """The tables that remain when dbt is done."""
    return [table for table in found if not is_leftover(table)]


def compact_tables(trino: Cursor) -> None:
    """Rewrite the small files of each table; in partitioned tables, only in the partitions that have many.

    Raises:
        UserError: a table failed; the others were compacted.
    """
    for_each(lasting(tables(trino)), partial(_compact, trino))


def _compact(trino: Cursor, table: Table) -> str:
    # dbt writes silver and gold, and if two programs write one table, one of them may fail.
    with dbt_lock(table.schema != "bronze"):
        before = count_files(trino, table)
        for condition in crowded(trino, table):
            query(trino, f"alter table {table.sql} execute optimize(file_size_threshold => '{SMALL_FILE}') {condition}")
            flush_metadata(trino, table)
        return f"{before} -> {count_files(trino, table)} files"


def flush_metadata(trino: Cursor, table: Table) -> None:
    """Let Trino read the log of a table again after a write.

    Spark's commits to Bronze don't fail if another writer has taken the same version: they replace it. In that rare
    case the write is lost, but no row; Trino must then forget the lost commit.
    """
    query(
        trino,
        f"call delta.system.flush_metadata_cache(schema_name => '{table.schema}', table_name => '{table.name}')",
    )


def crowded(trino: Cursor, table: Table) -> list[str]:
    """The where clauses of the partitions that have many files; one empty clause means the whole table."""
    columns = partition_columns(trino, table)
    if not columns:
        return [""] if count_files(trino, table) > FEW_FILES else []
    values = ", ".join(f'partition."{column}"' for column in columns)
    rows = query(
        trino, f"select {values} from {table.metadata('$partitions')} where file_count > {FEW_FILES} order by {values}"
    )
    return [f"where {' and '.join(map(equals, columns, row))}" for row in rows]


def partition_columns(trino: Cursor, table: Table) -> list[str]:
    """The columns by which a table is partitioned."""
    ((definition,),) = query(trino, f"show create table {table.sql}")
    _, _, after = definition.partition("partitioned_by = ARRAY[")
    return [name.strip(" '") for name in after.partition("]")[0].split(",") if name.strip()]


def equals(column: str, value: date | str | int | None) -> str:
    """The condition that a partition column has this value."""
    match value:
        case None:
            return f'"{column}" is null'
        case date():
            return f"\"{column}\" = date '{value}'"
        case str():
            return f"\"{column}\" = '{value.replace("'", "''")}'"
        case _:
            return f'"{column}" = {value}'


def count_files(trino: Cursor, table: Table) -> int:
    """How many files the newest version of a table has."""
    ((files,),) = query(trino, f'select count(distinct "$path") from {table.sql}')
    return files


def vacuum_tables(trino: Cursor) -> None:
    """Delete the files that no version of the last seven days needs.

    Raises:
        UserError: a table failed; the others were vacuumed.
    """
    for_each(lasting(tables(trino)), partial(_vacuum, trino))


def _vacuum(trino: Cursor, table: Table) -> str:
    query(
        trino,
        f"call delta.system.vacuum(schema_name => '{table.schema}', table_name => '{table.name}',"
        f" retention => '{RETENTION}')",
    )
    return f"vacuumed, {count_files(trino, table)} files are in use"


def drop_leftovers(trino: Cursor) -> None:
    """Drop the temporary tables of dbt runs that crashed, while no dbt run is under way.

    Raises:
        UserError: a table could not be dropped.
    """
    with dbt_lock():
        for kind, word in (("BASE TABLE", "table"), ("VIEW", "view")):
            leftovers = [table for table in tables(trino, kind) if is_leftover(table)]
            log.info("%d %ss are left over", len(leftovers), word)
            for_each(leftovers, partial(_drop, trino, word))


def _drop(trino: Cursor, word: str, table: Table) -> str:
    query(trino, f"drop {word} {table.sql}")
    return "dropped: left over from a dbt run that crashed"


@contextmanager
def dbt_lock(needed: bool = True) -> Iterator[None]:
    """Wait for a dbt run that is under way, and keep dbt from running until the block ends."""
    if not needed:
        yield
        return
    with DBT_LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def for_each(chosen: list[Table], work: Callable[[Table], str]) -> None:
    """Do the work for each table and log its outcome; if a table fails, the others are still processed."""
    failed = []
    for table in chosen:
        started = time.monotonic()
        try:
            outcome = work(table)
        except (TrinoQueryError, UserError) as error:
            failed.append(f"{table.schema}.{table.name}")
            outcome = f"failed: {error.message if isinstance(error, TrinoQueryError) else error}"
        log.info("%s.%s: %s (%.1f s)", table.schema, table.name, outcome, time.monotonic() - started)
    if failed:
        raise UserError(f"not done for {', '.join(failed)}; the reasons are above")


STEPS = {"compact": compact_tables, "vacuum": vacuum_tables, "leftovers": drop_leftovers}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.maintenance", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors(), lakehouse_cursor() as trino:
        STEPS[arguments.step](trino)


if __name__ == "__main__":
    main()

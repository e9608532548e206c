"""How long a full build of Silver and Gold takes, and a run after 9,000 more payments: at 1 and at 2 million.

Replaces Silver and Gold with builds from copies of the first payments of Bronze: for a stack of its own.
"""

import json
import subprocess
import time

from fraud_common.errors import UserError, one_line_errors
from fraud_common.trino import query
from lakehouse.connection import lakehouse_cursor
from trino.dbapi import Cursor

SIZES = (1_000_000, 2_000_000)
NEW_PAYMENTS = 9_000
# The tables of Bronze, and the time by which a copy is cut off.
TABLES = {"transactions": "event_time", "labels": "reported_at"}


def copy_of_bronze(trino: Cursor, payments: int) -> str:
    """A schema with the first payments, to the next full hour, and the labels known by then; returns its name."""
    schema = f"bench_{payments}"
    ((until,),) = query(
        trino,
        f"""
        select min(until) from (
            select date_trunc('hour', event_time) + interval '1' hour as until,
                sum(count(*)) over (order by date_trunc('hour', event_time)) as payments
            from delta.bronze.transactions group by date_trunc('hour', event_time))
        where payments >= {payments}""",
    )
    if until is None:
        raise UserError(f"Bronze has fewer than {payments:,} payments: raise BACKFILL_DAYS")
    query(trino, f"create schema if not exists delta.{schema} with (location = 's3://lakehouse/{schema}')")
    for table, time_column in TABLES.items():
        query(trino, f"drop table if exists delta.{schema}.{table}")
        query(
            trino,
            f"create table delta.{schema}.{table} with (partitioned_by = array['event_date'])"
            f" as select * from delta.bronze.{table}"
            f" where {time_column} < timestamp '{until:%Y-%m-%d %H:%M:%S}.000 UTC'",
        )
    return schema


def add_payments(trino: Cursor, schema: str) -> int:
    """Add the next payments and their labels, as if Bronze had loaded them just now; returns how many payments."""
    newest = f"(select max(event_time) from delta.{schema}.transactions)"
    until = f"""(select max(event_time) from (
        select event_time from delta.bronze.transactions where event_time > {newest}
        order by event_time limit {NEW_PAYMENTS}))"""
    copy_rows(trino, schema, "transactions", f"event_time > {newest} and event_time <= {until}")
    # `newest` is now that of the added payments.
    reported = f"(select max(reported_at) from delta.{schema}.labels)"
    copy_rows(trino, schema, "labels", f"reported_at <= {newest} and reported_at > {reported}")
    ((added,),) = query(
        trino,
        f"select count(*) from delta.{schema}.transactions where loaded_at > current_timestamp - interval '1' minute",
    )
    return added


def copy_rows(trino: Cursor, schema: str, table: str, condition: str) -> None:
    """Copy rows of Bronze into the schema's table, as if loaded now."""
    columns = [name for name, *_ in query(trino, f"show columns from delta.{schema}.{table}")]
    values = ", ".join("current_timestamp(3)" if name == "loaded_at" else name for name in columns)
    query(trino, f"insert into delta.{schema}.{table} select {values} from delta.bronze.{table} where {condition}")


def timed_dbt(schema: str, *arguments: str) -> float:
    """Seconds that a dbt command takes as a whole process.

    Raises:
        UserError: dbt failed.
    """
    started = time.monotonic()
    command = ["dbt-run", *arguments, "--vars", json.dumps({"bronze_schema": schema})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dbt failed:\n{done.stdout[-3000:]}")
    return round(time.monotonic() - started, 1)


def measure(trino: Cursor, size: int) -> dict[str, float]:
    """The durations in seconds at one size."""
    schema = copy_of_bronze(trino, size)
    timed_dbt(schema, "seed")
    full = timed_dbt(schema, "run", "--full-refresh")
    added = add_payments(trino, schema)
    incremental = timed_dbt(schema, "run")
    return {
        "payments": size,
        "full_s": full,
        "added": added,
        "incremental_s": incremental,
        "ratio": round(incremental / full, 2),
        "nothing_new_s": timed_dbt(schema, "run"),
    }


def main() -> None:
    """Print one line of JSON for each size."""
    with one_line_errors(), lakehouse_cursor() as trino:
        for size in SIZES:
            print(json.dumps(measure(trino, size)), flush=True)


if __name__ == "__main__":
    main()

"""How long a full build of Silver and Gold takes, and a run after 9,000 more payments: at 1 and at 2 million.

python -m lakehouse.bench

Builds from copies of the first payments of Bronze, in place of what is in Silver and Gold: for a stack of its own.
"""

import argparse
import json
import subprocess
import sys
import time

from trino.dbapi import Cursor

from lakehouse.trino_connection import LakehouseError, cursor, query

SIZES = (1_000_000, 2_000_000)
NEW_PAYMENTS = 9_000


def copy_of_bronze(trino: Cursor, payments: int) -> str:
    """A schema with the first payments, to the next full hour, and the labels known by then; returns its name."""
    schema = f"bench_{payments}"
    (answer,) = query(
        trino,
        f"""
        select min(until) from (
            select date_trunc('hour', event_time) + interval '1' hour as until,
                sum(count(*)) over (order by date_trunc('hour', event_time)) as payments
            from delta.bronze.transactions group by date_trunc('hour', event_time))
        where payments >= {payments}""",
    )
    if answer[0] is None:
        raise LakehouseError(f"Bronze has fewer than {payments:,} payments: raise BACKFILL_DAYS")
    until = f"timestamp '{answer[0]:%Y-%m-%d %H:%M:%S}.000 UTC'"
    query(trino, f"create schema if not exists delta.{schema} with (location = 's3://lakehouse/{schema}')")
    for table, time_column in (("transactions", "event_time"), ("labels", "reported_at")):
        query(trino, f"drop table if exists delta.{schema}.{table}")
        query(
            trino,
            f"create table delta.{schema}.{table} with (partitioned_by = array['event_date'])"
            f" as select * from delta.bronze.{table} where {time_column} < {until}",
        )
    return schema


def add_payments(trino: Cursor, schema: str) -> int:
    """The next payments after those, with their labels, as if Bronze had loaded them just now; returns how many."""
    for table, time_column in (("transactions", "event_time"), ("labels", "reported_at")):
        columns = [name for name, *_ in query(trino, f"show columns from delta.{schema}.{table}")]
        values = ", ".join("current_timestamp(3)" if name == "loaded_at" else name for name in columns)
        newest = f"(select max(event_time) from delta.{schema}.transactions)"
        until = f"""(select max(event_time) from (
            select event_time from delta.bronze.transactions where event_time > {newest}
            order by event_time limit {NEW_PAYMENTS}))"""
        if table == "labels":
            # The payments are in by now: what was reported up to the newest of them and is not there yet.
            where = (
                f"{time_column} <= {newest} and {time_column} > (select max({time_column}) from delta.{schema}.labels)"
            )
        else:
            where = f"{time_column} > {newest} and {time_column} <= {until}"
        query(trino, f"insert into delta.{schema}.{table} select {values} from delta.bronze.{table} where {where}")
    return query(
        trino,
        f"select count(*) from delta.{schema}.transactions where loaded_at > current_timestamp - interval '1' minute",
    )[0][0]


def timed_dbt(schema: str, *arguments: str) -> float:
    """Seconds that a dbt command takes as a whole process."""
    started = time.monotonic()
    command = ["dbt-run", *arguments, "--vars", json.dumps({"bronze_schema": schema})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LakehouseError(f"dbt failed:\n{done.stdout[-3000:]}")
    return round(time.monotonic() - started, 1)


def main() -> None:
    """Print one line of JSON for each size."""
    argparse.ArgumentParser(prog="python -m lakehouse.bench", description=__doc__.splitlines()[0]).parse_args()
    try:
        with cursor() as trino:
            for size in SIZES:
                schema = copy_of_bronze(trino, size)
                timed_dbt(schema, "seed")
                full = timed_dbt(schema, "run", "--full-refresh")
                added = add_payments(trino, schema)
                incremental = timed_dbt(schema, "run")
                again = timed_dbt(schema, "run")
                print(
                    json.dumps(
                        {
                            "payments": size,
                            "full_s": full,
                            "added": added,
                            "incremental_s": incremental,
                            "ratio": round(incremental / full, 2),
                            "nothing_new_s": again,
                        }
                    ),
                    flush=True,
                )
    except LakehouseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""Makes Bronze, which Spark writes, known to Trino. Changes nothing when it is known already.

python -m lakehouse.register --wait 300
"""

import argparse
import sys
import time

from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError, TrinoUserError

from lakehouse.trino_connection import LakehouseError, cursor, query

BRONZE = "s3://lakehouse/bronze"
TABLES = ("transactions", "labels")
POLL_SECONDS = 5


def register_bronze(trino: Cursor) -> list[str]:
    """Registers the tables of Bronze that Trino does not know yet, and returns their names."""
    query(trino, f"create schema if not exists delta.bronze with (location = '{BRONZE}/')")
    known = {name for (name,) in query(trino, "show tables from delta.bronze")}
    missing = [table for table in TABLES if table not in known]
    for table in missing:
        _register(trino, table)
    return missing


def _register(trino: Cursor, table: str) -> None:
    location = f"{BRONZE}/{table}"
    try:
        query(
            trino,
            "call delta.system.register_table("
            f"schema_name => 'bronze', table_name => '{table}', table_location => '{location}')",
        )
    except TrinoUserError as error:
        # Somebody else was faster.
        if error.error_name == "TABLE_ALREADY_EXISTS":
            return
        if "No transaction log found" in str(error.message):
            raise LakehouseError(
                f"Bronze has no {table} yet ({location}): is spark-streaming up? docker compose logs spark-streaming"
            ) from error
        raise


def wait_for_bronze(seconds: float) -> list[str]:
    """Registers Bronze, and tries again for so long while Spark has written nothing or Trino is still starting."""
    end = time.monotonic() + seconds
    while True:
        try:
            with cursor() as trino:
                return register_bronze(trino)
        except (LakehouseError, TrinoQueryError) as error:
            if isinstance(error, TrinoQueryError) and error.error_name != "SERVER_STARTING_UP":
                raise
            if time.monotonic() + POLL_SECONDS > end:
                raise
        time.sleep(POLL_SECONDS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.register", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for Bronze to exist (default: not)"
    )
    try:
        registered = wait_for_bronze(parser.parse_args().wait)
    except (LakehouseError, TrinoQueryError) as error:
        sys.exit(f"error: {error}")
    print(f"registered: {', '.join(registered)}" if registered else "Bronze is registered already")


if __name__ == "__main__":
    main()

"""Registers Bronze, which Spark writes, in Trino. Changes nothing if it is registered already.

python -m lakehouse.register --wait 300
"""

import argparse
import time

from fraud_common.errors import UserError, one_line_errors
from fraud_common.trino import query
from trino.dbapi import Cursor
from trino.exceptions import TrinoUserError

from lakehouse.connection import lakehouse_cursor

BRONZE = "s3://lakehouse/bronze"
TABLES = ("transactions", "labels")
POLL_SECONDS = 5


def register_bronze(trino: Cursor) -> list[str]:
    """Register the tables of Bronze that Trino does not know yet.

    Returns:
        their names.

    Raises:
        UserError: Spark has not written a table yet.
    """
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
        # Another process registered it meanwhile.
        if error.error_name in ("ALREADY_EXISTS", "TABLE_ALREADY_EXISTS"):
            return
        if "No transaction log found" in str(error.message):
            raise UserError(
                f"Bronze has no {table} yet ({location}): is spark-streaming up? docker compose logs spark-streaming"
            ) from error
        raise


def wait_for_bronze(seconds: float) -> list[str]:
    """Register Bronze, and try again for so long while Spark has written nothing or Trino is still starting.

    Raises:
        UserError: why the last attempt failed.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            with lakehouse_cursor() as trino:
                return register_bronze(trino)
        except UserError:
            if time.monotonic() + POLL_SECONDS > end:
                raise
        time.sleep(POLL_SECONDS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.register", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for Bronze to exist (default: not)"
    )
    arguments = parser.parse_args()
    with one_line_errors():
        registered = wait_for_bronze(arguments.wait)
    print(f"registered: {', '.join(registered)}" if registered else "Bronze is registered already")


if __name__ == "__main__":
    main()

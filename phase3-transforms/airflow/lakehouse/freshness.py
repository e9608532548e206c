"""How old are Bronze's newest rows? The pipeline stops there when they are too old.

python -m lakehouse.freshness --limit 30
"""

import argparse
import logging
import os
import sys
from datetime import UTC, datetime, timedelta

from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError

from lakehouse.register import register_bronze
from lakehouse.trino_connection import LakehouseError, cursor, query

log = logging.getLogger(__name__)

DEFAULT_LIMIT_MINUTES = 30


def limit_minutes() -> int:
    """The oldest that Bronze's newest rows may be, from BRONZE_MAX_AGE_MINUTES."""
    return int(os.environ.get("BRONZE_MAX_AGE_MINUTES") or DEFAULT_LIMIT_MINUTES)


def newest_load(trino: Cursor) -> datetime | None:
    """When Bronze's newest row was loaded.

    Each file's range of loaded_at is in the Delta log, so that a narrow window opens a few files only; the next wider
    one is asked when there is nothing in it. The files' own times would not do: a compaction makes old rows new files.
    """
    for window in (
        "where loaded_at > current_timestamp - interval '2' minute",
        "where loaded_at > current_timestamp - interval '1' day",
        "",
    ):
        ((newest,),) = query(trino, f"select max(loaded_at) from delta.bronze.transactions {window}")
        if newest is not None:
            return newest
    return None


def complaint(age: timedelta, limit: int) -> str | None:
    """The sentence that says what is wrong, or None when Bronze is fresh enough."""
    if age <= timedelta(minutes=limit):
        return None
    return (
        f"Bronze is stale: its newest rows were loaded {age // timedelta(minutes=1)} min ago (limit {limit} min): "
        "is spark-streaming up? docker compose ps spark-streaming"
    )


def check_bronze_freshness(trino: Cursor, limit: int | None = None) -> None:
    """Raises LakehouseError when Bronze is older than the limit."""
    newest = newest_load(trino)
    if newest is None:
        raise LakehouseError("Bronze has no rows yet: is spark-streaming up? docker compose logs spark-streaming")
    age = datetime.now(UTC) - newest
    if sentence := complaint(age, limit_minutes() if limit is None else limit):
        raise LakehouseError(sentence)
    log.info("Bronze is fresh: its newest rows were loaded %.0f s ago", age.total_seconds())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.freshness", description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=limit_minutes(), metavar="MINUTES", help="default: %(default)s")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with cursor() as trino:
            register_bronze(trino)
            check_bronze_freshness(trino, arguments.limit)
    except (LakehouseError, TrinoQueryError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""How old are Bronze's newest rows? The pipeline stops here if they are too old.

python -m lakehouse.freshness --limit 30
"""

import argparse
import logging
from datetime import UTC, datetime, timedelta

from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import load_settings
from fraud_common.trino import query
from trino.dbapi import Cursor

from lakehouse.connection import LakehouseSettings, lakehouse_cursor
from lakehouse.register import register_bronze

log = logging.getLogger(__name__)


def newest_load(trino: Cursor) -> datetime | None:
    """When Bronze's newest row was loaded; None if there are no rows.

    Each file's range of loaded_at is in the Delta log, so a narrow window opens only a few files. If it is empty, a
    wider one follows. The files' own times would not do: a compaction makes new files of old rows.
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


def complaint(age: timedelta, limit_minutes: int) -> str | None:
    """The sentence that says what is wrong, or None if Bronze is fresh enough."""
    if age <= timedelta(minutes=limit_minutes):
        return None
    return (
        f"Bronze is stale: its newest rows were loaded {age // timedelta(minutes=1)} min ago "
        f"(limit {limit_minutes} min): is spark-streaming up? docker compose ps spark-streaming"
    )


def check_bronze_freshness(trino: Cursor, limit_minutes: int) -> None:
    """Register Bronze if need be, and check its age.

    Raises:
        UserError: Bronze is missing, empty, or older than the limit.
    """
    register_bronze(trino)
    newest = newest_load(trino)
    if newest is None:
        raise UserError("Bronze has no rows yet: is spark-streaming up? docker compose logs spark-streaming")
    age = datetime.now(UTC) - newest
    if sentence := complaint(age, limit_minutes):
        raise UserError(sentence)
    log.info("Bronze is fresh: its newest rows were loaded %.0f s ago", age.total_seconds())


def main() -> None:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        default = load_settings(LakehouseSettings).bronze_max_age_minutes
        parser = argparse.ArgumentParser(prog="python -m lakehouse.freshness", description=__doc__.splitlines()[0])
        parser.add_argument("--limit", type=int, default=default, metavar="MINUTES", help="default: %(default)s")
        arguments = parser.parse_args()
        with lakehouse_cursor() as trino:
            check_bronze_freshness(trino, arguments.limit)


if __name__ == "__main__":
    main()

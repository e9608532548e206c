"""What ends the growth of the lakehouse: days of payments that nothing needs any more, and old entries of Delta's logs.

python -m lakehouse.retention days | logs

A day goes when it is older than LAKEHOUSE_RETENTION_DAYS by the data clock, and when its last payment arrived so long
ago: replayed payments of another year stay as long as those of today. It goes from Bronze, Silver and the training
examples, so that a rebuild gives the same. Labels and the hourly metrics stay: they are few, and a user's known frauds
count for ever. The files are deleted by the vacuum after seven days.
"""

import argparse
import logging
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from functools import partial

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import TrinoSettings, load_settings
from fraud_common.trino import query
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trino.dbapi import Cursor

from lakehouse.connection import lakehouse_cursor
from lakehouse.maintenance import Table, dbt_lock, flush_metadata, for_each, lasting, tables

log = logging.getLogger(__name__)

BRONZE, SILVER = Table("bronze", "transactions"), Table("silver", "stg_transactions")
EXAMPLES = Table("gold", "mart_training_examples")
# What training needs before its own days: until a payment has matured, and the longest window; `label_maturity_days`
# and `windows` in dbt_project.yml. A rebuild of the online features reads less.
MATURITY_DAYS, WINDOW_DAYS = 14, 30
# `data_clock_rank` in dbt_project.yml.
DATA_CLOCK_RANK = 3


class RetentionSettings(TrinoSettings):
    """How long days are kept, and where the tables' files are."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    # 0: for ever.
    lakehouse_retention_days: int = Field(default=90, ge=0)
    training_days: int = Field(default=45, ge=4)
    s3_endpoint: str = "http://minio:9000"
    s3_access_key: str = "trino"
    s3_secret_key: str = ""


def require_enough(settings: RetentionSettings) -> None:
    """Do nothing if what is kept is enough for training.

    Raises:
        UserError: it is not.
    """
    needed = settings.training_days + MATURITY_DAYS + WINDOW_DAYS
    if 0 < settings.lakehouse_retention_days < needed:
        raise UserError(
            f"LAKEHOUSE_RETENTION_DAYS={settings.lakehouse_retention_days} is not enough for training, so nothing is "
            f"deleted: TRAINING_DAYS={settings.training_days}, {MATURITY_DAYS} days until labels are there and "
            f"{WINDOW_DAYS} days of windows need {needed}; raise it in .env"
        )


def retire_days(trino: Cursor, settings: RetentionSettings, now: datetime) -> None:
    """Delete the days that are older than the retention from Bronze, Silver and the training examples.

    Args:
        now: the time at the wall.

    Raises:
        UserError: the retention is too short for training, or a table failed; the others were processed.
    """
    require_enough(settings)
    there = tables(trino)
    if not settings.lakehouse_retention_days or SILVER not in there:
        log.info("no day is deleted: %s", "there are no payments yet" if SILVER not in there else "all are kept")
        return
    retention = timedelta(days=settings.lakehouse_retention_days)
    clock = data_clock_day(trino)
    if clock is None:
        log.info("no day is deleted: there are no payments yet")
        return
    # Bronze first: a rebuild between two steps can't bring back what Silver has lost already. Examples last, since they
    # follow Silver.
    for_each(
        [table for table in (BRONZE, SILVER, EXAMPLES) if table in there],
        partial(_retire, trino, clock - retention, now - retention),
    )


def data_clock_day(trino: Cursor) -> date | None:
    """The day of the data clock, as macros/clocks.sql computes it; None without payments."""
    days = sorted(event_dates(trino, SILVER))
    # The newest days suffice if enough users paid on them; else all are read.
    newest: list[list[date]] = []
    for since in days[-DATA_CLOCK_RANK:][:1] + days[:1]:
        newest = query(
            trino,
            f"select date(max(event_time)) from {SILVER.sql} where event_date >= date '{since}'"
            f" group by user_id order by 1 desc limit {DATA_CLOCK_RANK}",
        )
        if len(newest) == DATA_CLOCK_RANK:
            break
    return min((day for (day,) in newest), default=None)


def event_dates(trino: Cursor, table: Table) -> set[date]:
    """The days of a table's partitions."""
    rows = query(trino, f'select distinct partition."event_date" from {table.metadata("$partitions")}')
    return {day for (day,) in rows if day is not None}


def _retire(trino: Cursor, before: date, arrived_before: datetime, table: Table) -> str:
    # dbt writes silver and gold, and if two programs write one table, one of them may fail.
    with dbt_lock(table != BRONZE):
        old = {day for day in event_dates(trino, table) if day < before}
        retired = old - event_dates(trino, SILVER) if table == EXAMPLES else _arrived(trino, table, old, arrived_before)
        if retired:
            query(trino, f"delete from {table.sql} where {_on(retired)}")
            flush_metadata(trino, table)
        return f"{len(retired)} days before {before} deleted" if retired else f"no day before {before} is to be deleted"


def _arrived(trino: Cursor, table: Table, days: Collection[date], before: datetime) -> set[date]:
    """Those of the days whose payments had all arrived by then."""
    if not days:
        return set()
    moment = f"timestamp '{before.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC'"
    rows = query(
        trino,
        f"select event_date from {table.sql} where {_on(days)} group by event_date having max(loaded_at) < {moment}",
    )
    return {day for (day,) in rows}


def _on(days: Collection[date]) -> str:
    return f"event_date in ({', '.join(f"date '{day}'" for day in sorted(days))})"


def clean_logs(trino: Cursor, settings: RetentionSettings) -> None:
    """Delete entries of the logs of Silver and Gold that are older than `delta.logRetentionDuration`, or 30 days.

    Trino writes these logs and never shortens them; a run of the pipeline adds an entry to each. Spark does it for its
    own, Bronze. What the newest checkpoint does not have stays, so a table without news keeps its log.

    Raises:
        UserError: a log could not be read or shortened; the others were.
    """
    options = {
        "endpoint_url": settings.s3_endpoint,
        "region": "us-east-1",
        "allow_http": str(settings.s3_endpoint.startswith("http://")).lower(),
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
    }
    for_each([table for table in lasting(tables(trino)) if table.schema != "bronze"], partial(_clean_log, options))


def _clean_log(options: dict[str, str], table: Table) -> str:
    try:
        delta = DeltaTable(f"s3://lakehouse/{table.schema}/{table.name}", storage_options=options)
        delta.cleanup_metadata()
    except TableNotFoundError:
        return "is not in its own folder: its log stays"
    except DeltaError as error:
        raise UserError(f"{table.schema}.{table.name}: {error!s:.200}") from error
    return f"log up to version {delta.version()} shortened"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.retention", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("days", "logs"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors(), lakehouse_cursor() as trino:
        settings = load_settings(RetentionSettings)
        if arguments.step == "days":
            retire_days(trino, settings, datetime.now(UTC))
        else:
            clean_logs(trino, settings)


if __name__ == "__main__":
    main()

"""Migrations of the fraud database on a real Postgres: new, of earlier releases with data, of a newer release."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from audit.sink import Sink
from fraud_common.days import TABLES as DAYS
from fraud_common.days import create_days, partitions
from fraud_common.errors import UserError
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from fraud_db.migrate import MIGRATIONS, upgrade
from own_database import as_superuser, own_database
from predictions import line

# Rows of every table, as the release before migrations stored them.
ROWS = """
insert into predictions (
    prediction_id, transaction_id, user_id, merchant_id, amount, is_international, event_time, fraud_probability,
    risk_tier, model_version, feature_source, feature_age_seconds, features, latency_ms, predicted_at
)
select
    gen_random_uuid(), 'payment-' || number, 'u', 'm', 1.5, false, '2024-11-29', 0.5, 'high', '1', 'stream', 1,
    '{"amount": 1.5}', 1, now() - number * interval '1 hour'
from generate_series(1, 200) as number;
insert into prediction_reasons (prediction_id, predicted_at, reasons)
select prediction_id, predicted_at, '[]' from predictions;
insert into labels (transaction_id, user_id, is_fraud, event_time, reported_at)
select transaction_id, user_id, true, event_time, now() from predictions;
"""
LATER_ROWS = """
insert into shadow_predictions (
    position, prediction_id, transaction_id, event_time, model_version, fraud_probability, risk_tier, scored_at
)
select position, prediction_id, transaction_id, event_time, '2', 0.4, 'medium', predicted_at from predictions;
insert into quality_days values ('2024-11-29', 'production', '1', 'high', 500, 200, 200, 100);
update quality_cursors set position = 200;
update shadow_cursor set position = 200, model_version = '2';
update quality_clock set newest_label = '2024-11-30';
"""
TABLES = (
    "predictions", "prediction_reasons", "shadow_predictions", "labels", "quality_days", "quality_cursors",
    "quality_clock", "shadow_cursor",
)  # fmt: skip
# What older releases had.
OLDER = """
alter table predictions drop column position;
create index predictions_transaction_id on predictions (transaction_id);
create table prediction_days (day date);
alter table labels add column fraud_probability float, add column risk_tier text, add column model_version text;
drop table prediction_reasons, shadow_predictions, shadow_cursor, quality_days, quality_clock, quality_cursors cascade;
drop sequence predictions_position cascade;
"""


@pytest.fixture
def database() -> Iterator[PostgresSettings]:
    with own_database() as settings:
        yield settings


def execute(settings: PostgresSettings, statements: str) -> list[tuple[Any, ...]]:
    connection = connect(settings, "tests")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statements)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def before_migrations(settings: PostgresSettings) -> None:
    """The schema of the release before migrations, which is the first one."""
    upgrade(settings, "1")
    execute(settings, "drop table alembic_version")


def content(settings: PostgresSettings, tables: tuple[str, ...] = TABLES) -> dict[str, list[tuple[Any, ...]]]:
    return {table: execute(settings, f"select * from {table} order by 1") for table in tables}


def kept(settings: PostgresSettings, before: dict[str, list[tuple[Any, ...]]]) -> bool:
    """Whether all rows are there with all values that they had; later releases add columns behind them."""
    after = content(settings)
    return all(
        [row[: len(old)] for row, old in zip(after[table], rows, strict=True)] == rows for table, rows in before.items()
    )


def newest() -> str | None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head()


def test_a_new_database_and_a_second_run(database: PostgresSettings) -> None:
    upgrade(database)
    empty = content(database)
    assert empty["predictions"] == [] and empty["quality_cursors"] == [("production", 0), ("staging", 0)]
    assert execute(database, "select * from quality_weeks") == []
    upgrade(database)
    assert content(database) == empty
    assert execute(database, "select version_num from alembic_version") == [(newest(),)]


def test_a_database_of_the_release_before_migrations_keeps_its_data(database: PostgresSettings) -> None:
    before_migrations(database)
    execute(database, ROWS + LATER_ROWS)
    before = content(database)
    weeks = execute(database, "select * from quality_weeks")
    assert len(before["predictions"]) == len(before["shadow_predictions"]) == 200
    upgrade(database)
    assert kept(database, before)
    assert execute(database, "select * from quality_weeks") == weeks
    # Positions continue where they were.
    execute(database, ROWS.partition(";")[0].replace("(1, 200)", "(1, 1)"))
    assert execute(database, "select max(position) from predictions") == [(201,)]


def test_a_database_of_an_older_release_keeps_its_data(database: PostgresSettings) -> None:
    """It lacks positions, shadow and quality; a row without a position counts as the first of its payment."""
    before_migrations(database)
    execute(database, ROWS)
    execute(database, OLDER)
    columns = "transaction_id, user_id, is_fraud, fraud_type, event_time, reported_at"
    before = execute(database, f"select {columns} from labels order by 1")
    ids = execute(database, "select prediction_id, features from predictions order by 1")
    upgrade(database)
    assert execute(database, f"select {columns} from labels order by 1") == before
    assert execute(database, "select prediction_id, features from predictions order by 1") == ids
    assert execute(database, "select count(position) from predictions") == [(0,)]
    assert execute(database, "select to_regclass('prediction_days')") == [(None,)]
    assert execute(database, "select newest_label = (select max(reported_at) from labels) from quality_clock") == [
        (True,)
    ]


def test_a_table_with_rows_becomes_a_partition_and_is_not_copied(database: PostgresSettings) -> None:
    before_migrations(database)
    execute(database, ROWS + LATER_ROWS)
    files = {table: execute(database, f"select pg_relation_filenode('{table}')") for table in DAYS}
    upgrade(database)
    connection = connect(database, "tests")
    with connection, connection.cursor() as cursor:
        for table in DAYS:
            (partition,) = partitions(cursor, table)
            assert execute(database, f"select pg_relation_filenode('{partition.sql}')") == files[table]
            # Those of the next days go there, too; then come days.
            assert partition.begin is None and partition.has(datetime.now(UTC).date() + timedelta(days=5))
            create_days(cursor, [datetime.now(UTC).date(), partition.end.date()], [table])
            assert len(partitions(cursor, table)) == 2
    connection.close()


def test_a_migration_that_was_killed_is_done_again(database: PostgresSettings) -> None:
    before_migrations(database)
    execute(database, ROWS + LATER_ROWS)
    before = content(database)
    # On another day; and in the middle of an index.
    execute(
        database, "alter table predictions add constraint predictions_end check (predicted_at < '2030-01-01') not valid"
    )
    execute(database, "create index predictions_in_order on predictions (position)")
    as_superuser(
        "update pg_index set indisvalid = false where indexrelid = 'predictions_in_order'::regclass",
        database.fraud_db_name,
    )
    upgrade(database)
    assert kept(database, before)
    assert execute(database, "select count(*) from pg_index where not indisvalid") == [(0,)]
    assert execute(database, "select conname from pg_constraint where conname like '%_end'") == []


def test_services_store_while_the_database_is_migrated(database: PostgresSettings) -> None:
    """A query that runs for seconds keeps the migration waiting, and no service longer than two seconds at once."""
    before_migrations(database)
    execute(database, ROWS + LATER_ROWS)
    reader = connect(database, "tests")
    with reader.cursor() as cursor:
        cursor.execute("select count(*) from predictions")
    migration = threading.Thread(target=upgrade, args=[database])
    migration.start()
    stalls = []
    end = time.monotonic() + 6
    while time.monotonic() < end:
        started = time.monotonic()
        execute(database, ROWS.partition(";")[0].replace("(1, 200)", "(1, 1)"))
        stalls.append(time.monotonic() - started)
    assert max(stalls) < 3
    reader.close()
    migration.join(60)
    assert execute(database, "select version_num from alembic_version") == [(newest(),)]
    assert execute(database, "select count(*) from predictions") == [(200 + len(stalls),)]
    # What only the new schema takes waited in files.
    sink = Sink(database, threading.Event(), on_retry=lambda: None)
    sink.store([line("after", predicted_at=datetime.now(UTC).isoformat()).rstrip()])
    assert execute(database, "select count(*) from predictions") == [(201 + len(stalls),)]


def test_a_database_of_a_newer_release_is_refused(database: PostgresSettings) -> None:
    upgrade(database)
    execute(database, "update alembic_version set version_num = 'of the future'")
    with pytest.raises(UserError, match=r"is at revision of the future.*start the newer release again"):
        upgrade(database)


def test_two_migrations_at_once_do_not_mix(database: PostgresSettings) -> None:
    holder = connect(database, "tests")
    with holder.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(hashtext('fraud_db_migrations'))")
    with pytest.raises(UserError, match="another migration"):
        upgrade(database)
    holder.close()
    upgrade(database)


def test_a_wrong_password_is_one_line(database: PostgresSettings) -> None:
    with pytest.raises(UserError, match="password authentication failed"):
        upgrade(database.model_copy(update={"fraud_db_password": "wrong"}))

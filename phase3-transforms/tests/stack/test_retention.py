"""Retention on real Trino, with a moved clock: days of payments go, from all three tables, and what is needed stays."""

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from fraud_common.errors import UserError
from fraud_common.trino import query
from lake import READER_STORAGE, rows
from lakehouse import maintenance, retention
from lakehouse.connection import lakehouse_cursor
from lakehouse.maintenance import Table
from lakehouse.retention import RetentionSettings, clean_logs, retire_days

START = date(2019, 3, 1)
RETENTION, TRAINING = 50, 6
# The simulated clock is years back: the wall's is so much ahead.
WALL = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = RetentionSettings(
    lakehouse_retention_days=RETENTION,
    training_days=TRAINING,
    s3_access_key=READER_STORAGE["access_key_id"],
    s3_secret_key=READER_STORAGE["secret_access_key"],
)


def execute(sql: str) -> None:
    with lakehouse_cursor() as trino:
        query(trino, sql)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Table]]:
    """Three empty tables of the test's own in the place of the pipeline's."""
    name = uuid.uuid4().hex[:8]
    own = {
        "BRONZE": Table(f"bronze_{name}", "transactions"),
        "SILVER": Table(f"silver_{name}", "stg_transactions"),
        "EXAMPLES": Table(f"gold_{name}", "mart_training_examples"),
    }
    for constant, table in own.items():
        monkeypatch.setattr(retention, constant, table)
        execute(f"create schema delta.{table.schema} with (location = 's3://lakehouse/{table.schema}')")
        arrival = "" if constant == "EXAMPLES" else ", loaded_at timestamp(3) with time zone"
        execute(
            f"create table {table.sql} (user_id varchar, event_time timestamp(3) with time zone{arrival},"
            " event_date date) with (partitioned_by = array['event_date'])"
        )
    monkeypatch.setattr(maintenance, "SCHEMAS", tuple(table.schema for table in own.values()))
    yield own
    for table in own.values():
        execute(f"drop schema delta.{table.schema} cascade")


def load(tables: dict[str, Table], days: list[date], arrived: datetime, users: int = 4) -> None:
    """Payments of some users on each of these days."""
    for constant, table in tables.items():
        arrival = "" if constant == "EXAMPLES" else f", timestamp '{arrived:%Y-%m-%d %H:%M:%S} UTC'"
        values = ", ".join(
            f"('u{user}', timestamp '{day} 12:00:00 UTC'{arrival}, date '{day}')"
            for day in days
            for user in range(users)
        )
        execute(f"insert into {table.sql} values {values}")


def retire(now: datetime, settings: RetentionSettings = SETTINGS) -> None:
    with lakehouse_cursor() as trino:
        retire_days(trino, settings, now)


def days_of(table: Table) -> list[date]:
    return rows(f"select distinct event_date from {table.sql} order by 1")["event_date"].tolist()


def test_a_stack_that_runs_on_keeps_as_many_days(tables: dict[str, Table]) -> None:
    """Both clocks move on by 20 days between two nights; two of these days have payments."""
    kept = []
    for begin in range(0, 100, 20):
        now = WALL + timedelta(days=begin + 20)
        load(tables, [START + timedelta(days=begin + day) for day in (9, 19)], now)
        retire(now)
        kept.append([len(days_of(table)) for table in tables.values()])
    # Flat after the retention, and never less than it.
    assert kept == [[2] * 3, [4] * 3, [6] * 3, [6] * 3, [6] * 3]
    for table in tables.values():
        assert days_of(table)[0] == START + timedelta(days=49)


def test_old_payments_that_have_just_arrived_stay(tables: dict[str, Table]) -> None:
    """A replay of another year: it goes when it has been there for as long as everything else."""
    old, recent = date(2013, 1, 1), START + timedelta(days=100)
    load(tables, [old, START], WALL)
    load(tables, [recent], WALL + timedelta(days=RETENTION - 1))
    retire(WALL + timedelta(days=RETENTION - 1))
    assert days_of(retention.BRONZE) == [old, START, recent]
    retire(WALL + timedelta(days=RETENTION, hours=1))
    for table in tables.values():
        assert days_of(table) == [recent]


def test_two_users_with_a_wrong_time_do_not_retire_the_others(tables: dict[str, Table]) -> None:
    """B1: the data clock is the third-newest of the users' newest event times."""
    load(tables, [START], WALL)
    load(tables, [START + timedelta(days=400)], WALL, users=2)
    retire(WALL + timedelta(days=RETENTION + 1))
    assert START in days_of(retention.BRONZE)


def test_too_short_a_retention_deletes_nothing(tables: dict[str, Table]) -> None:
    load(tables, [START, START + timedelta(days=100)], WALL)
    short = SETTINGS.model_copy(update={"training_days": 7})
    with pytest.raises(UserError, match=r"LAKEHOUSE_RETENTION_DAYS=50 is not enough .* need 51; raise it in .env"):
        retire(WALL + timedelta(days=365), short)
    retire(WALL + timedelta(days=365), SETTINGS.model_copy(update={"lakehouse_retention_days": 0}))
    assert len(days_of(retention.BRONZE)) == 2


def test_logs_are_shortened_and_tables_stay_readable(tables: dict[str, Table]) -> None:
    silver = tables["SILVER"]
    execute(f"comment on table {silver.sql} is 'has entries without files, too'")
    load(tables, [START], WALL)
    with lakehouse_cursor() as trino:
        before = query(trino, f"select * from {silver.sql} order by 1")
        clean_logs(trino, SETTINGS)
        assert query(trino, f"select * from {silver.sql} order by 1") == before

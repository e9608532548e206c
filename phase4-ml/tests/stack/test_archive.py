"""Old days leave Postgres once they are archived: a moved clock on a real Postgres, one day on a real lakehouse."""

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from audit.sink import Sink
from fraud_common.days import TABLES, Partition, create_days, partitions
from fraud_common.errors import UserError
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, TrinoSettings
from fraud_common.trino import query, trino_cursor
from fraud_db.migrate import upgrade
from lakehouse import archive
from lakehouse.archive import archive_old
from lakehouse.prediction_archives import Archives
from own_database import as_superuser, own_database
from predictions import line
from psycopg2.extensions import connection as Connection
from serving_stack import POSTGRES_HOST

FIRST = date(2001, 1, 1)
# Of the tables with their indexes, and of the whole database.
SIZES = """
select sum(pg_total_relation_size(oid))::bigint, pg_database_size(current_database())
from pg_class
where relkind = 'r' and relnamespace in ('public'::regnamespace, 'days'::regnamespace)
"""
# What a prediction has since there are rules.
DECIDED = {
    "rule_results": {"fired": [[1, 2]], "shadow": [], "threw": [], "suppressed": [], "model": "approve"},
    "decision": "decline",
    "queue": True,
    "ruleset_id": 12,
    "held_out": False,
    "currency": "EUR",
    "country": "DE",
    "device_id": "d1",
    "device_type": "web",
    "merchant_category": None,
    "unknown_features": "novelty,device",
}
KEYS = {"predictions": "prediction_id", "prediction_reasons": "prediction_id", "shadow_predictions": "position"}


class MemoryLake:
    """An archive in memory; it can be killed before or after it adds rows."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rows: dict[str, list[Any]] = {table: [] for table in TABLES}
        self.killed_before = self.killed_after = 0

    def _not_archived(self, table: str, partition: Partition, begin: datetime, end: datetime) -> list[Any]:
        rows = select(
            self.connection,
            f"select {KEYS[table]} from {partition.sql} where {TABLES[table]} >= %s and {TABLES[table]} < %s",
            begin,
            end,
        )
        archived = set(self.rows[table])
        return [key for (key,) in rows if key not in archived]

    def add(self, table: str, partition: Partition, begin: datetime, end: datetime) -> None:
        if self.killed_before:
            self.killed_before -= 1
            raise KeyboardInterrupt
        self.rows[table] += self._not_archived(table, partition, begin, end)
        if self.killed_after:
            self.killed_after -= 1
            raise KeyboardInterrupt

    def missing(self, table: str, partition: Partition, begin: datetime, end: datetime) -> int:
        return len(self._not_archived(table, partition, begin, end))


@pytest.fixture
def database() -> Iterator[PostgresSettings]:
    with own_database() as settings:
        upgrade(settings)
        yield settings


@pytest.fixture
def connection(database: PostgresSettings) -> Iterator[Connection]:
    connection = connect(database, "tests")
    yield connection
    connection.close()


@pytest.fixture
def sink(database: PostgresSettings) -> Sink:
    return Sink(database, threading.Event(), on_retry=lambda: None)


def select(connection: Connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def store(connection: Connection, sink: Sink, day: date, rows: int, half_hours: int = 48) -> None:
    """What a day leaves in each table, spread over so many: every tenth payment is suspicious, and has a label."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    lines = []
    for number in range(rows):
        tier = "low" if number % 10 else "high"
        at = begin + timedelta(minutes=30) * (number % half_hours)
        lines.append(line(f"{day} {number}", risk_tier=tier, predicted_at=at.isoformat()).rstrip())
    sink.store(lines)
    with connection, connection.cursor() as cursor:
        create_days(cursor, [day], ["shadow_predictions"])
        cursor.execute(
            "insert into shadow_predictions select position, prediction_id, transaction_id, event_time, '2', 0.5,"
            " 'low', predicted_at from predictions where predicted_at >= %s and predicted_at < %s",
            (begin, begin + timedelta(days=1)),
        )
        cursor.execute(
            "insert into labels select transaction_id, user_id, true, null, event_time, event_time, predicted_at"
            " from predictions where risk_tier = 'high' and predicted_at >= %s and predicted_at < %s",
            (begin, begin + timedelta(days=1)),
        )


def keys(connection: Connection, table: str) -> list[Any]:
    return [key for (key,) in select(connection, f"select {KEYS[table]} from {table}")]


def all_days(connection: Connection, table: str) -> list[date]:
    with connection, connection.cursor() as cursor:
        return [partition.begin.date() for partition in partitions(cursor, table) if partition.begin]


def test_sixty_days_leave_thirty(connection: Connection, database: PostgresSettings, sink: Sink) -> None:
    lake = MemoryLake(connection)
    sizes = []
    for number in range(60):
        day = FIRST + timedelta(days=number)
        store(connection, sink, day, 480, half_hours=4)
        archive_old(connection, lake, day, keep_days=30)
        if number % 6 == 5:
            # What autovacuum does: sixty days take seconds here.
            as_superuser("vacuum", database.fraud_db_name)
            sizes.append(select(connection, SIZES)[0])
    # 30 whole days, and today.
    kept = [FIRST + timedelta(days=number) for number in range(29, 60)]
    for table in TABLES:
        assert all_days(connection, table) == kept
        everything = keys(connection, table) + lake.rows[table]
        assert len(everything) == len(set(everything)) == 60 * (48 if table == "prediction_reasons" else 480)
    assert select(connection, "select count(*), min(stored_at)::date from labels") == [(31 * 48, kept[0])]
    # They grow while there are fewer days than are kept, and then, from day 36 on, no more.
    tables, database_size = zip(*sizes, strict=True)
    assert tables[5] > 3 * tables[0]
    assert max(tables[6:]) < 1.02 * tables[5], tables
    # Its catalogue has the partitions of many months: they come and go within seconds here.
    assert max(database_size[6:]) < 1.1 * database_size[5], database_size


@pytest.mark.parametrize("where", ["killed_before", "killed_after"])
def test_a_kill_loses_and_doubles_nothing(connection: Connection, sink: Sink, where: str) -> None:
    store(connection, sink, FIRST, 100)
    before = {table: set(keys(connection, table)) for table in TABLES}
    lake = MemoryLake(connection)
    today = FIRST + timedelta(days=31)
    for _ in range(5):
        setattr(lake, where, 1)
        with pytest.raises(KeyboardInterrupt):
            archive_old(connection, lake, today, keep_days=30)
        for table in TABLES:
            assert before[table] <= {*keys(connection, table), *lake.rows[table]}
    archive_old(connection, lake, today, keep_days=30)
    for table in TABLES:
        assert keys(connection, table) == []
        assert sorted(lake.rows[table]) == sorted(before[table])


def test_nothing_is_dropped_that_is_not_archived(
    connection: Connection, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(connection, sink, FIRST, 100)
    lake = MemoryLake(connection)
    monkeypatch.setattr(lake, "add", lambda *_: None)
    with pytest.raises(UserError, match=r"\d rows of 2001-01-01 00 h are not archived; none is dropped"):
        archive_old(connection, lake, FIRST + timedelta(days=31), keep_days=30)
    assert len(keys(connection, "predictions")) == 100


def test_what_is_stored_while_a_day_is_archived_is_archived_too(
    connection: Connection, database: PostgresSettings, sink: Sink
) -> None:
    """Such as the file of a worker that was found after a month."""
    store(connection, sink, FIRST, 100)
    lake = MemoryLake(connection)
    late = [line("late", predicted_at="2001-01-01T00:10:00Z").rstrip()]
    missing = lake.missing

    def and_a_late_one(*asked: Any) -> int:
        if late:
            Sink(database, threading.Event(), on_retry=lambda: None).store([late.pop()])
        return missing(*asked)

    lake.missing = and_a_late_one  # type: ignore[method-assign]
    today = FIRST + timedelta(days=31)
    archive_old(connection, lake, today, keep_days=30)
    assert len(set(lake.rows["predictions"])) == len(lake.rows["predictions"]) == 101
    # And after the day was dropped.
    sink.store([line("later", predicted_at="2001-01-01T00:10:00Z").rstrip()])
    assert len(keys(connection, "predictions")) == 1
    archive_old(connection, lake, today, keep_days=30)
    assert len(set(lake.rows["predictions"])) == len(lake.rows["predictions"]) == 102
    assert all_days(connection, "predictions") == []


def test_a_long_query_delays_the_drop_and_no_payment(
    connection: Connection, database: PostgresSettings, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LOCK_ATTEMPTS", 2)
    monkeypatch.setattr(archive, "SECONDS_BETWEEN_ATTEMPTS", 0.1)
    store(connection, sink, FIRST, 100)
    lake = MemoryLake(connection)
    reader = connect(database, "tests")
    with reader.cursor() as cursor:
        cursor.execute("select count(*) from predictions")
    with pytest.raises(UserError, match="is archived but not dropped, since queries on predictions do not end"):
        archive_old(connection, lake, FIRST + timedelta(days=31), keep_days=30)
    assert len(keys(connection, "predictions")) == 100
    store(connection, sink, FIRST + timedelta(days=1), 10)
    reader.close()


def test_one_run_at_a_time(connection: Connection, database: PostgresSettings) -> None:
    other = connect(database, "tests")
    archive_old(other, MemoryLake(other), FIRST, keep_days=30)
    with pytest.raises(UserError, match="another run archives predictions"):
        archive_old(connection, MemoryLake(connection), FIRST, keep_days=30)
    other.close()


def test_without_predictions_there_is_nothing_to_do() -> None:
    with own_database() as settings:
        connection = connect(settings, "tests")
        assert "make phase4-up" in archive_old(connection, MemoryLake(connection), FIRST, keep_days=30)
        connection.close()


def test_days_of_a_wrong_clock_are_stored(connection: Connection, sink: Sink) -> None:
    days = ["1970-01-01", "2001-01-01", "2099-12-31"]
    sink.store([line("wrong clock", predicted_at=f"{day}T12:00:00Z", risk_tier="high").rstrip() for day in days])
    # What is no day of the calendar is left out, and the others are stored.
    sink.store([line("t", predicted_at=at).rstrip() for at in ("infinity", None, "2001-01-02T00:00:00Z")])
    assert len(keys(connection, "predictions")) == 4 and len(keys(connection, "prediction_reasons")) == 3


def test_the_first_lines_of_a_day_by_many_workers(connection: Connection, database: PostgresSettings) -> None:
    def work() -> None:
        sink = Sink(database, threading.Event(), on_retry=lambda: None)
        for number in range(20):
            sink.store([line("x", predicted_at=f"2001-01-{1 + number:02}T12:00:00Z").rstrip()])

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(keys(connection, "predictions")) == 80


@pytest.fixture
def lakehouse() -> Iterator[str]:
    """A schema of Delta tables of this test alone."""
    schema = f"archive_{uuid.uuid4().hex[:8]}"
    yield schema
    with trino_cursor(TrinoSettings(), user="tests") as trino:
        for table in TABLES:
            query(trino, f"drop table if exists delta.{schema}.{table}_archive")
        query(trino, f"drop schema if exists delta.{schema}")


def test_trino_archives_each_row_once(lakehouse: str) -> None:
    """In the database that Trino's catalogue shows, with days of long ago."""
    settings = PostgresSettings(postgres_host=POSTGRES_HOST)
    connection = connect(settings, "tests")
    sink = Sink(settings, threading.Event(), on_retry=lambda: None)
    store(connection, sink, FIRST, 20)
    stored = select(
        connection,
        "select prediction_id::text, transaction_id, fraud_probability, features::text, predicted_at, position"
        " from predictions where predicted_at < '2001-01-02' order by predicted_at",
    )
    today = FIRST + timedelta(days=31)
    with trino_cursor(TrinoSettings(), user="tests") as trino:
        # Killed after the rows were added, and before the day was dropped.
        # The archive of an earlier release has fewer columns.
        query(trino, f"create schema delta.{lakehouse} with (location = 's3://lakehouse/{lakehouse}')")
        query(
            trino,
            f"create table delta.{lakehouse}.predictions_archive (prediction_id varchar, transaction_id varchar,"
            " predicted_at timestamp(3) with time zone, day date) with (partitioned_by = array['day'])",
        )
        lake = Archives(trino, lakehouse)
        with connection, connection.cursor() as cursor:
            (partition,) = [
                each for each in partitions(cursor, "predictions") if each.begin and each.begin.year == 2001
            ]
        assert partition.begin is not None
        lake.add("predictions", partition, partition.begin, partition.begin + timedelta(hours=1))
        archive_old(connection, Archives(trino, lakehouse), today, keep_days=30)
        sink.store([line("late", predicted_at="2001-01-01T00:10:00Z", **DECIDED).rstrip()])
        archive_old(connection, Archives(trino, lakehouse), today, keep_days=30)
        archived = query(
            trino,
            "select prediction_id, transaction_id, fraud_probability, features, predicted_at, position, day"
            f" from delta.{lakehouse}.predictions_archive where transaction_id <> 'late' order by predicted_at",
        )
        assert [tuple(row[:3]) for row in archived] == [row[:3] for row in stored]
        assert [row[3].replace(" ", "") for row in archived] == [row[3].replace(" ", "") for row in stored]
        assert [tuple(row[4:]) for row in archived] == [(*row[4:], FIRST) for row in stored]
        ((results, *decided),) = query(
            trino,
            f"select rule_results, {', '.join(list(DECIDED)[1:])} from delta.{lakehouse}.predictions_archive"
            " where transaction_id = 'late'",
        )
        assert [json.loads(results), *decided] == list(DECIDED.values())
        counts = {
            table: query(
                trino, f"select count(*), count(distinct {KEYS[table]}) from delta.{lakehouse}.{table}_archive"
            )
            for table in TABLES
        }
    assert counts == {"predictions": [[21, 21]], "prediction_reasons": [[2, 2]], "shadow_predictions": [[20, 20]]}
    assert select(connection, "select count(*) from predictions where predicted_at < '2001-01-02'") == [(0,)]
    connection.close()

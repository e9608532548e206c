"""Trino's catalogue `fraud`, which anybody who reaches Trino can use, shows what is in Postgres and changes nothing."""

import re

import pytest
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, TrinoSettings
from fraud_common.trino import query, trino_cursor
from serving_stack import POSTGRES_HOST, service
from trino.exceptions import TrinoQueryError

# What the role itself is asked, as a query that Trino passes on would.
CHANGES = [
    "delete from quality_clock",
    "update quality_cursors set position = 0",
    "insert into quality_cursors values ('x', 1)",
    "truncate labels",
    "drop table labels",
    "alter table labels add column x int",
    "create table x (x int)",
    "create temporary table x (x int)",
    "create schema x",
    "select setval('predictions_position', 1)",
    "select nextval('predictions_position')",
    "select lo_create(0)",
    "select pg_advisory_lock(hashtext('predictions_position'))",
    "select pg_try_advisory_xact_lock(1)",
    "copy labels to '/tmp/labels'",
    "select pg_read_file('/etc/passwd')",
    "create role x",
    "set role fraud",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'",
]
REFUSED = "permission denied|read-only transaction|must be owner"


def as_trino(command: str, database: str = "fraud") -> tuple[int, str]:
    result = service("postgres").exec_run(["psql", "-h", "/tmp", "-U", "trino", "-AtqX", database, "-c", command])
    return result.exit_code, result.output.decode()


def test_the_role_reads_every_table_and_view() -> None:
    assert as_trino("select count(*) from quality_cursors") == (0, "2\n")
    # Those that are made later, too.
    connection = connect(PostgresSettings(postgres_host=POSTGRES_HOST), "tests")
    with connection, connection.cursor() as cursor:
        cursor.execute("create schema of_a_test create table later (x int)")
    try:
        assert as_trino("select count(*) from of_a_test.later") == (0, "0\n")
    finally:
        with connection, connection.cursor() as cursor:
            cursor.execute("drop schema of_a_test cascade")
        connection.close()


@pytest.mark.parametrize("writing", [False, True], ids=["as it comes", "after set transaction read write"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_role_changes_nothing(change: str, writing: bool) -> None:
    command = f"begin read write; {change}; commit" if writing else change
    code, output = as_trino(command)
    assert code == 1, output
    assert re.search(REFUSED, output), output


@pytest.mark.parametrize("database", ["superset", "mlflow", "airflow"])
def test_the_role_sees_no_other_database(database: str) -> None:
    code, output = as_trino("select 1", database)
    assert code == 2 and "permission denied for database" in output


@pytest.mark.parametrize(
    "statement",
    [
        "delete from fraud.public.labels",
        "delete from fraud.public.predictions where risk_tier = 'none'",
        "insert into fraud.public.quality_cursors values ('x', 1)",
        "create table fraud.public.x (x bigint)",
        "drop table fraud.public.labels",
        "select * from table(fraud.system.query(query => 'select nextval(''predictions_position'') as position'))",
    ],
)
def test_trino_changes_nothing(statement: str) -> None:
    with (
        pytest.raises(TrinoQueryError, match=REFUSED),
        trino_cursor(TrinoSettings(), user="tests") as trino,
    ):
        query(trino, statement)


def test_trino_reads() -> None:
    with trino_cursor(TrinoSettings(), user="tests") as trino:
        assert query(trino, "select count(*) from fraud.public.quality_cursors") == [[2]]

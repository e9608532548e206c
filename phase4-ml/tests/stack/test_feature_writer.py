"""The feature writer with real Trino and Redis: every user and every merchant, as they are in Gold."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from feature_store.layout import PUSHED_AT_KEY
from features import CATEGORY_RISKS_KEY, MERCHANT_KEY, SNAPSHOT_SECONDS, USER_KEY, MerchantFeatures, UserFeatures
from serving.feature_writer import LOCK_KEY, WriterSettings, push_features
from serving_stack import REDIS_HOST, redis_client
from trino_tools import TRINO_HOST, query

USERS, MERCHANTS = 2_345, 57
AS_OF = "timestamp '2024-11-29 14:00:00.123 UTC'"
# Every tenth user has not paid for 30 days: zeros, no last payment, and still known frauds.
USER_COLUMNS = {
    **{
        f"{name}_{days}d": f"if(n % 10 = 0, 0, {value})"
        for days in (1, 7, 30)
        for name, value in (
            ("transactions", f"n % 50 + {days}"),
            ("amount_sum", f"n * {days} * 1.1e0"),
            ("amount_mean", f"n / {days}e0"),
            ("amount_stddev", "sqrt(n)"),
            ("amount_max", "n * 0.1e0"),
        )
    },
    **{f"distinct_{name}_30d": "n % 7" for name in ("merchants", "countries", "devices")},
    "confirmed_frauds": "n % 4",
    "last_event_time": f"if(n % 10 = 0, null, {AS_OF} - n * interval '1' minute)",
    "as_of": AS_OF,
}
MERCHANT_COLUMNS = {
    "merchant_category": "'gaming'",
    "merchant_category_risk": "n % 3",
    **{f"merchant_transactions_{days}d": f"n * {days}" for days in (1, 7, 30)},
    **{f"merchant_fraud_rate_{days}d": "n / 1e3" for days in (1, 7, 30)},
    "as_of": "timestamp '2024-11-29 00:00:00.000 UTC'",
}
TYPES = {int: "bigint", float: "double", str: "varchar", "merchant_category_risk": "integer"}


def make_table(name: str, key: str, columns: dict[str, str], features: type[Any], count: int) -> None:
    """A table of Gold with the columns and types of the real one."""
    typed = []
    for field in fields(features):
        sql_type = TYPES.get(field.name) or TYPES.get(field.type) or "timestamp(3) with time zone"
        # Any other feature is some share.
        typed.append(f"cast({columns.get(field.name, 'n % 11 / 11e0')} as {sql_type}) as {field.name}")
    query(
        f"create table {name} as select {key}, 'not a feature' as note, {', '.join(typed)}"
        f" from unnest(sequence(1, {count})) as numbers (n)"
    )


@pytest.fixture(scope="module")
def gold() -> Iterator[WriterSettings]:
    """Small tables in a schema of their own."""
    schema = f"writer_test_{uuid.uuid4().hex[:8]}"
    tables: tuple[str, ...] = (f"delta.{schema}.mart_fraud_features", f"delta.{schema}.mart_merchant_risk")
    query(f"create schema delta.{schema} with (location = 's3://lakehouse/{schema}')")
    make_table(tables[0], "'writer-' || cast(n as varchar) as user_id", USER_COLUMNS, UserFeatures, USERS)
    make_table(
        tables[1], "'writer-' || cast(n as varchar) as merchant_id", MERCHANT_COLUMNS, MerchantFeatures, MERCHANTS
    )
    query(
        f"create table delta.{schema}.mart_category_risk as"
        " select * from (values ('gaming', 2), ('fuel', 0)) as risks (category, risk)"
    )
    tables += (f"delta.{schema}.mart_category_risk",)
    yield WriterSettings(trino_host=TRINO_HOST, redis_host=REDIS_HOST, gold_schema=schema, push_batch=100)
    for table in tables:
        query(f"drop table {table}")
    query(f"drop schema delta.{schema}")


def test_every_row_is_a_snapshot(gold: WriterSettings) -> None:
    result = push_features(gold)
    assert result["users"] == USERS
    assert result["merchants"] == MERCHANTS
    assert result["as_of"] == "2024-11-29T14:00:00.123000+00:00"
    store = redis_client()
    assert json.loads(store.get(CATEGORY_RISKS_KEY) or b"") == {"gaming": 2, "fuel": 0}
    # E4: what only Gold says of merchants stays when no run of the pipeline succeeds for days.
    assert store.ttl(CATEGORY_RISKS_KEY) == store.ttl(PUSHED_AT_KEY) == -1
    users = query(f"select * from delta.{gold.gold_schema}.mart_fraud_features")
    assert len(users) == USERS
    for row in users:
        key = USER_KEY.format(row["user_id"])
        snapshot = UserFeatures.from_json(store.get(key) or b"")
        assert snapshot == UserFeatures.from_row(row)
        assert SNAPSHOT_SECONDS - 300 < store.ttl(key) <= SNAPSHOT_SECONDS
    absent = UserFeatures.from_json(store.get(USER_KEY.format("writer-10")) or b"")
    assert (absent.transactions_30d, absent.confirmed_frauds, absent.last_event_time) == (0, 2, None)
    active = UserFeatures.from_json(store.get(USER_KEY.format("writer-1")) or b"")
    assert active.last_event_time == datetime(2024, 11, 29, 13, 59, 0, 123_000, UTC)
    for row in query(f"select * from delta.{gold.gold_schema}.mart_merchant_risk"):
        merchant = MerchantFeatures.from_json(store.get(MERCHANT_KEY.format(row["merchant_id"])) or b"")
        assert merchant == MerchantFeatures.from_row(row)
        assert store.ttl(MERCHANT_KEY.format(row["merchant_id"])) == -1


def test_again_changes_nothing_but_the_expiry(gold: WriterSettings) -> None:
    store = redis_client()
    push_features(gold)
    key = USER_KEY.format("writer-7")
    before = store.get(key)
    store.expire(key, 100)
    result = push_features(gold)
    assert (result["users"], result["merchants"]) == (USERS, MERCHANTS)
    assert store.get(key) == before
    assert store.ttl(key) > 100
    assert store.get(LOCK_KEY) is None


def test_a_push_waits_for_the_one_that_is_running(gold: WriterSettings) -> None:
    # As after a kill: the lock expires by itself.
    lock = redis_client().lock(LOCK_KEY, timeout=2)
    assert lock.acquire()
    assert push_features(gold)["seconds"] >= 1.5


def test_a_nearly_full_redis_takes_no_snapshots(gold: WriterSettings) -> None:
    """Field case E3: what is left is for the stream; one line says what to do."""
    push_features(gold)
    store = redis_client()
    pushed_at, limit = store.get(PUSHED_AT_KEY), store.config_get("maxmemory")["maxmemory"]
    store.config_set("maxmemory", round(store.info("memory")["used_memory"] / 0.97))
    try:
        done = run(GOLD_SCHEMA=gold.gold_schema)
    finally:
        store.config_set("maxmemory", limit)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("is full: raise REDIS_MAXMEMORY in .env, then make up")
    assert store.get(PUSHED_AT_KEY) == pushed_at


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """The command as Airflow runs it."""
    return subprocess.run(
        [sys.executable, "-m", "serving.feature_writer"],
        env=os.environ | {"TRINO_HOST": TRINO_HOST, "REDIS_HOST": REDIS_HOST} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_ends_with_one_line_of_json(gold: WriterSettings) -> None:
    done = run(GOLD_SCHEMA=gold.gold_schema)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["users"] == USERS


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"REDIS_PASSWORD": "wrong"}, "correct REDIS_PASSWORD in .env"),
        ({"REDIS_PASSWORD": ""}, "correct REDIS_PASSWORD in .env"),
        ({"REDIS_HOST": "localhost", "REDIS_PORT": "1"}, "Redis does not answer at localhost:1"),
        ({"REDIS_HOST": "no-such-host.invalid"}, "docker compose ps redis"),
        ({"TRINO_PORT": "1"}, "docker compose ps trino"),
        ({"GOLD_SCHEMA": "no_such_schema"}, "build the tables with make dbt-run"),
        ({"REDIS_PORT": "many"}, "REDIS_PORT=many"),
    ],
)
def test_what_a_person_can_put_right_is_one_line(environment: dict[str, str], sentence: str) -> None:
    done = run(**environment)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert sentence in line


def test_redis_features_shows_a_user(gold: WriterSettings) -> None:
    push_features(gold)
    command = [sys.executable, "-m", "feature_store.redis_features", "--user"]

    def show(user: str) -> str:
        return subprocess.run(
            [*command, user], env=os.environ | {"REDIS_HOST": REDIS_HOST}, capture_output=True, text=True, check=True
        ).stdout

    shown = show("writer-7")
    assert "user_features:{}" in shown
    assert "as of 2024-11-29T14:00:00.123000+00:00" in shown
    assert "transactions_30d             37" in shown
    assert "not there; a prediction uses the defaults" in show("nobody")

"""Redis filled from Bronze and compared with Gold, on real Trino: what is missing is found and repaired."""

import uuid
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import oracle
import pandas as pd
import pytest
from feature_store import coverage, writer
from feature_store.coverage import Progress
from feature_store.lakehouse import gold_cursor
from feature_store.layout import (
    CLOCK_KEY,
    MERCHANT_DAYS,
    NEWEST_USERS_KEY,
    USER_EVENTS,
    USER_LABELS,
    Label,
    PaymentEvent,
    merchant_number,
)
from feature_store.rebuild import Topics, read_payments, rebuild_from_bronze
from feature_store.reconcile import NothingToCompare, ReconciliationSettings, reconcile
from feature_store.writer import Batch
from feature_world import make_world
from features import DATA_CLOCK_RANK, USER_FEATURES, UserFeatures, milliseconds
from fraud_common.errors import UserError
from serving_stack import REDIS_HOST, redis_client
from stream_tools import all_state
from trino_tools import TRINO_HOST, query

TOPICS = Topics("transactions", "labels")
MAX_PAYMENTS = 1000


class Date(str):
    """A date as SQL has it."""


def literal(value: Any) -> str:
    """A value as SQL."""
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return f"timestamp '{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03} UTC'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value!r}e0" if "e" not in repr(value) else repr(value)
    if isinstance(value, Date):
        return f"date '{value}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


def make_table(name: str, types: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """A table with some rows."""
    query(f"create table {name} ({', '.join(f'{column} {kind}' for column, kind in types.items())})")
    for start in range(0, len(rows), 250):
        values = ", ".join(
            f"({', '.join(literal(row[column]) for column in types)})" for row in rows[start : start + 250]
        )
        query(f"insert into {name} values {values}")


class World:
    """Payments and labels in a Bronze of their own, and what Gold says of the users."""

    def __init__(self) -> None:
        payments, labels, _ = make_world(np.random.default_rng(1))
        payments = payments[payments["user_id"].isin([f"parity-{number}" for number in range(1, 12)])]
        # What is younger than 30 days at the end, so that Redis and Gold go by the same payments.
        self.payments = payments[payments["event_time"] > payments["event_time"].max() - pd.Timedelta(days=29)].tail(
            700
        )
        labels = labels[labels["transaction_id"].isin(self.payments["transaction_id"])]
        self.labels = labels.assign(reported_at=labels["reported_at"].dt.floor("ms"))
        # The data clock.
        self.as_of = self.payments.groupby("user_id")["event_time"].max().nlargest(DATA_CLOCK_RANK).iloc[-1]
        self.arrived = datetime.now(UTC)
        name = uuid.uuid4().hex[:8]
        self.bronze, self.gold = f"bronze_{name}", f"gold_{name}"
        self.users = sorted(set(self.payments["user_id"]))

    def settings(self) -> ReconciliationSettings:
        """Where it is."""
        return ReconciliationSettings(
            trino_host=TRINO_HOST, redis_host=REDIS_HOST, bronze_schema=self.bronze, gold_schema=self.gold
        )

    def write(self) -> None:
        """The tables."""
        for schema in (self.bronze, self.gold):
            query(f"create schema delta.{schema} with (location = 's3://lakehouse/{schema}')")
        time = "timestamp(3) with time zone"
        coordinates = {"kafka_partition": "integer", "kafka_offset": "bigint", "kafka_timestamp": time}
        coordinates["event_date"] = "date"
        texts = dict.fromkeys(("transaction_id", "user_id", "merchant_id", "country", "device_id"), "varchar")
        types = texts | {"amount": "decimal(12, 2)", "is_international": "boolean", "event_time": time} | coordinates
        make_table(f"delta.{self.bronze}.transactions", types, self.rows(self.payments))
        types = {"transaction_id": "varchar", "user_id": "varchar", "is_fraud": "boolean"}
        types |= {"event_time": time, "reported_at": time} | coordinates
        make_table(f"delta.{self.bronze}.labels", types, self.rows(self.labels))
        kinds = {int: "bigint", float: "double"}
        types = {"user_id": "varchar"} | {each.name: kinds.get(each.type, time) for each in fields(UserFeatures)}
        make_table(f"delta.{self.gold}.mart_fraud_features", types, [self.gold_row(user) for user in self.users])

    def rows(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        """Rows of Bronze; every third payment in the next partition."""
        rows = []
        for number, row in enumerate(table.to_dict("records")):
            plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
            plain |= {"kafka_partition": number % 3, "kafka_offset": number // 3, "kafka_timestamp": self.arrived}
            day = row["event_time"].date()
            rows.append(plain | {"event_date": Date(day.isoformat())})
        return [
            {name: value if not isinstance(value, float) else round(value, 2) for name, value in r.items()}
            for r in rows
        ]

    def gold_row(self, user: str) -> dict[str, Any]:
        """What the oracle says of a user now."""
        found = oracle.current_features(user, self.payments, self.labels, self.as_of)
        types = {each.name: each.type for each in fields(UserFeatures)}
        row = {name: (int if types[name] is int else float)(found[name]) for name in USER_FEATURES}
        last = found["last_event_time"]
        return row | {"user_id": user, "last_event_time": last and last.to_pydatetime(), "as_of": self.as_of}

    def apply(self) -> None:
        """All of it into Redis, without Trino."""
        payments = [
            PaymentEvent(
                row.transaction_id,
                row.user_id,
                row.merchant_id,
                milliseconds(row.event_time.to_pydatetime()),
                round(row.amount * 100),
                row.country,
                row.device_id,
                bool(row.is_international),
            )
            for row in self.payments.itertuples()
        ]
        labels = [
            Label(
                row.transaction_id,
                row.user_id,
                milliseconds(row.event_time.to_pydatetime()),
                milliseconds(row.reported_at.to_pydatetime()),
                bool(row.is_fraud),
            )
            for row in self.labels.itertuples()
        ]
        batch = Batch(payments, labels, Progress({(TOPICS.transactions, 0): 1}))
        writer.apply(redis_client(), batch, MAX_PAYMENTS)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Tables that are gone afterwards."""
    world = World()
    world.write()
    yield world
    for schema in (world.bronze, world.gold):
        query(f"drop schema delta.{schema} cascade")


@pytest.fixture(autouse=True)
def empty_redis() -> Iterator[None]:
    """Nothing of other tests, and nothing for them."""
    redis_client().flushdb()
    yield
    redis_client().flushdb()


def rebuild(world: World) -> None:
    rebuild_from_bronze(world.settings(), redis_client(), TOPICS, lambda filled, total: None)


def test_a_rebuild_is_what_the_stream_would_have_kept(world: World) -> None:
    world.apply()
    expected = all_state()
    redis_client().flushdb()
    rebuild(world)
    assert all_state() == expected
    assert len(expected) > 30
    # The stream resumes after the last message of each partition.
    ends = {
        (topic, partition): (len(table) - partition + 2) // 3
        for topic, table in ((TOPICS.transactions, world.payments), (TOPICS.labels, world.labels))
        for partition in range(3)
    }
    assert coverage.positions(redis_client()) == ends


def test_a_row_of_today_in_bronze_keeps_no_one_elses_payments_out(world: World) -> None:
    """B1: one user with a payment dated today, and one whose last payments are months before the others'."""
    rebuild(world)
    expected, clock = all_state(), coverage.clock(redis_client())
    as_of = world.as_of.to_pydatetime()
    bad, behind, gone = "wrong-date", "slow-partition", "no-longer-there"
    before = as_of - timedelta(days=200)
    rows = [
        (bad, world.arrived, world.arrived),
        (bad, as_of, world.arrived),
        (behind, before, world.arrived),
        (behind, before - timedelta(days=32), world.arrived),
        (behind, before - timedelta(days=32, milliseconds=1), world.arrived),
        # Its last message came so long ago that Redis has forgotten it.
        (gone, before, world.arrived - timedelta(days=36)),
    ]
    columns = "transaction_id, user_id, merchant_id, amount, event_time, kafka_partition, kafka_offset, kafka_timestamp"
    values = ", ".join(
        f"('time-{number}', '{user}', 'time', decimal '1.00', {literal(at)}, 0, {number}, {literal(arrived)})"
        for number, (user, at, arrived) in enumerate(rows)
    )
    table = f"delta.{world.bronze}.transactions"
    query(f"insert into {table} ({columns}) values {values}")
    try:
        redis_client().flushdb()
        rebuild(world)
        with gold_cursor(world.settings()) as trino:
            some = [payment.user_id for payment in read_payments(trino, world.bronze, [bad, behind], clock)]
    finally:
        query(f"delete from {table} where merchant_id = 'time'")
    state = all_state()
    assert state.keys() - expected.keys() == {
        USER_EVENTS.format(bad),
        USER_EVENTS.format(behind),
        MERCHANT_DAYS.format(merchant_number("time")),
    }
    assert {key: state[key] for key in expected} == expected
    assert redis_client().zcard(USER_EVENTS.format(bad)) == redis_client().zcard(USER_EVENTS.format(behind)) == 2
    assert sorted(some) == [behind] * 2 + [bad] * 2
    newest = redis_client().zrange(NEWEST_USERS_KEY, 0, -1)
    assert len(newest) == 3 and newest[-1] == bad.encode()
    last = world.payments["event_time"].max().to_pydatetime()
    assert clock <= coverage.clock(redis_client()) <= milliseconds(last)


def test_an_interrupted_rebuild_leaves_no_positions(world: World) -> None:
    def stop(filled: int, total: int) -> None:
        if filled:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild_from_bronze(world.settings(), redis_client(), TOPICS, stop)
    assert coverage.positions(redis_client()) == {}
    rebuild(world)
    assert coverage.positions(redis_client())


def test_without_bronze_there_is_nothing_to_fill_from(world: World) -> None:
    settings = world.settings().model_copy(update={"bronze_schema": "no_such_schema"})
    rebuild_from_bronze(settings, redis_client(), TOPICS, lambda filled, total: None)
    assert coverage.positions(redis_client()) == {}


def test_what_is_missing_is_found_and_repaired(world: World) -> None:
    rebuild(world)
    store, expected = redis_client(), all_state()
    report = reconcile(world.settings())
    assert (report["checked"], report["repaired"], report["ahead"]) == (len(world.users), 0, 0), report

    poor, *_ = world.users
    store.zremrangebyrank(USER_EVENTS.format(poor), 0, 2)
    store.delete(next(store.scan_iter(match=USER_LABELS.format("*"))))
    assert all_state() != expected
    report = reconcile(world.settings())
    assert report["repaired"] in (1, 2) and report["ahead"] == 0, report
    assert all_state() == expected


def test_every_history_that_is_gone_is_repaired(world: World) -> None:
    """Field case E3: whichever users are compared feature by feature."""
    rebuild(world)
    store, expected = redis_client(), all_state()
    some, *_, others = world.users
    store.delete(USER_EVENTS.format(some))
    store.zremrangebyrank(USER_EVENTS.format(others), -1, -1)
    settings = world.settings().model_copy(update={"reconciled_users": 1})
    report = reconcile(settings)
    assert (report["checked"], report["incomplete"], report["repaired"]) == (1, 2, 2), report
    assert all_state() == expected
    assert reconcile(settings)["incomplete"] == 0


def test_a_payment_that_gold_does_not_have_yet_is_no_error(world: World) -> None:
    rebuild(world)
    at = milliseconds(world.as_of.to_pydatetime()) - 1
    user, *_ = world.users
    late = PaymentEvent("late", user, "m1", at, 1, "DE", "d", is_international=False)
    writer.apply(redis_client(), Batch([late]), MAX_PAYMENTS)
    report = reconcile(world.settings())
    assert (report["repaired"], report["ahead"]) == (0, 1)
    (example,) = report["examples"]
    assert example.startswith(f"{user}: transactions_1d")


def test_a_stream_that_never_ran_or_does_not_move_is_reported(world: World) -> None:
    with pytest.raises(NothingToCompare, match="docker compose up -d feature-stream"):
        reconcile(world.settings())
    rebuild(world)
    redis_client().set(CLOCK_KEY, milliseconds(world.as_of.to_pydatetime()) - 60_000)
    with pytest.raises(UserError, match=r"60 s of event time behind Gold.*docker compose ps feature-stream"):
        reconcile(world.settings())

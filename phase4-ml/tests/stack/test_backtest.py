"""Backtests on the real Trino and Postgres: what was stored is evaluated as serving evaluated it, and history with it.

Everything happens in 2019, where the stack has nothing of its own; tables of history are in schemas of their own.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pytest
from audit.sink import COLUMNS
from features import FEATURES, TRAINING_COLUMNS
from fraud_common.days import create_days
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, TrinoSettings
from fraud_common.trino import trino_cursor
from predictions import line
from psycopg2.extensions import connection as Connection
from rules import backtest, store
from rules.facts import RulePayment, facts_of
from rules.language import parse
from rules.store import Content
from rules.to_python import compile_rules
from serving_stack import POSTGRES_HOST
from trino_tools import TRINO_HOST, query

START = datetime(2019, 3, 1, tzinfo=UTC)
PERIOD = {"from": "2019-03-01", "to": "2019-03-02"}
GROUPS = ("user", "merchant", "novelty", "device")
PAYMENTS = 300
SENT = ("currency", "country", "device_id", "device_type", "merchant_category")
CONDITIONS = [
    "amount > 500 and fraud_probability > 0.05",
    "is_new_device_30d and not is_round_amount",
    "amount_to_mean_30d >= 0.1 or transactions_1h is null",
    "coalesce(device_users_30d, 7) > 6 or merchant_amount_zscore_30d < -0.5",
    "currency in ('EUR', 'GBP') and country <> 'DE' or device_id is null",
    "amount_ref between 100 and 450.05 and risk_tier <> 'low'",
    "is_mobile or merchant_category = 'gaming' or event_hour * 2 < 11",
]
# Without a position: neither the model's quality nor the rules' scorecards count these rows.
INSERT = f"""
insert into predictions ({COLUMNS}, position)
select {COLUMNS}, null from jsonb_populate_recordset(null::predictions, %s::jsonb)
"""

type Add = Callable[..., None]


@dataclass(frozen=True)
class Scored:
    """A payment, and what rules saw of it."""

    name: str
    payment: RulePayment
    vector: list[float]
    score: float = 0.01
    tier: str = "low"
    unknown: tuple[str, ...] = ()

    def fires(self, when: str) -> bool:
        """What serving's own function says."""
        facts = facts_of(self.payment, self.vector, self.score, self.tier, self.unknown)
        return compile_rules([parse(when)])(facts, {}, START)[0] == [0]

    def line(self, **changes: Any) -> str:
        """The row of the audit; features are texts of float32 numbers, as serving writes them."""
        payment = self.payment
        values = np.array(self.vector, dtype=np.float32)
        features = orjson.dumps(dict(zip(FEATURES, values, strict=True)), option=orjson.OPT_SERIALIZE_NUMPY)
        row = {
            **{name: getattr(payment, name) for name in (*SENT, "user_id", "merchant_id", "amount")},
            "is_international": payment.is_international,
            "event_time": payment.event_time.isoformat(),
            "predicted_at": datetime.now(UTC).isoformat(),
            "fraud_probability": self.score,
            "risk_tier": self.tier,
            "features": orjson.loads(features),
            "unknown_features": ",".join(self.unknown),
            "decision": "approve",
            "queue": False,
            "held_out": False,
        }
        return line(self.name, **(row | changes)).decode()


def scored(name: str, seconds: float = 0, amount: float = 600.0, user: str = "u", **values: Any) -> Scored:
    """A payment of 600.00 so long after START, all of whose features are 0."""
    payment = RulePayment(user, "m", amount, False, START + timedelta(seconds=seconds), "EUR")
    return Scored(f"{name}-{uuid.uuid4()}", payment, [0.0] * len(FEATURES), **values)


def any_payments(seed: int) -> list[Scored]:
    """Payments with unknown groups, missing fields, and values at the edges of CONDITIONS."""
    chance = random.Random(seed)
    return [
        Scored(
            f"{number}-{uuid.uuid4()}",
            RulePayment(
                f"u{number % 50}",
                f"m{number % 7}",
                chance.choice([500.0, 500.01, 20.0, round(chance.lognormvariate(5, 1.5), 2)]),
                chance.random() < 0.3,
                START + timedelta(seconds=chance.randrange(2 * 86_400)),
                currency=chance.choice(["EUR", "GBP", "XXX", "ZZZ", None]),
                country=chance.choice(["DE", "FR", None]),
                device_id=chance.choice(["d1", None]),
                device_type=chance.choice(["mobile", "web", None]),
                merchant_category=chance.choice(["gaming", None]),
            ),
            [float(np.float32(chance.choice([0.0, 1.0, 0.1, 7.0, chance.gauss(1, 2)]))) for _ in FEATURES],
            score=round(chance.random() ** 4, 6),
            tier=chance.choice(["low", "medium", "high"]),
            unknown=tuple(group for group in GROUPS if chance.random() < 0.15),
        )
        for number in range(PAYMENTS)
    ]


class History:
    """Training examples, what was sent, and scores, in a schema of their own."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        columns = ", ".join(
            f"{name} {'varchar' if name == 'device_type' else 'boolean' if name == 'is_international' else 'double'}"
            for name in TRAINING_COLUMNS
        )
        tables = {
            "mart_training_examples": "transaction_id varchar, user_id varchar, merchant_id varchar, event_time"
            f" timestamp(3) with time zone, event_date date, is_fraud boolean, {columns}",
            "stg_transactions": "transaction_id varchar, event_date date, currency varchar, country varchar,"
            " device_id varchar, merchant_category varchar",
            "example_scores": "transaction_id varchar, event_date date, model_version varchar,"
            " fraud_probability double, risk_tier varchar, learned boolean",
        }
        self._tables = list(tables)
        query(f"create schema delta.{schema} with (location = 's3://lakehouse/gold/{schema}')")
        for name, definition in tables.items():
            query(f"create table delta.{schema}.{name} ({definition})")

    def add(self, *payments: Scored, fraud: bool = False, with_score: bool = True, learned: bool = False) -> None:
        """Matured payments."""
        for each in payments:
            payment, day = each.payment, f"date '{each.payment.event_time.date()}'"
            values = ", ".join(
                {"amount": f"{payment.amount!r}e0", "device_type": "null", "is_international": "false"}.get(name, "0e0")
                for name in TRAINING_COLUMNS
            )
            query(
                f"insert into delta.{self.schema}.mart_training_examples values ('{each.name}', '{payment.user_id}',"
                f" '{payment.merchant_id}', timestamp '{payment.event_time:%Y-%m-%d %H:%M:%S} UTC', {day}, {fraud},"
                f" {values})"
            )
            query(
                f"insert into delta.{self.schema}.stg_transactions values ('{each.name}', {day},"
                f" '{payment.currency}', null, null, null)"
            )
            if with_score:
                query(
                    f"insert into delta.{self.schema}.example_scores values ('{each.name}', {day}, '1',"
                    f" {each.score!r}e0, '{each.tier}', {learned})"
                )

    def drop(self) -> None:
        """Delete all of it."""
        for name in self._tables:
            query(f"drop table delta.{self.schema}.{name}")
        query(f"drop schema delta.{self.schema}")


@pytest.fixture(scope="module")
def schema() -> Iterator[History]:
    history = History(f"backtest_test_{uuid.uuid4().hex[:8]}")
    yield history
    history.drop()


@pytest.fixture
def history(schema: History, monkeypatch: pytest.MonkeyPatch) -> History:
    """Empty tables of history, which the backtest reads."""
    monkeypatch.setenv("GOLD_SCHEMA", schema.schema)
    monkeypatch.setenv("SILVER_SCHEMA", schema.schema)
    for name in ("mart_training_examples", "stg_transactions", "example_scores"):
        query(f"delete from delta.{schema.schema}.{name}")
    return schema


@pytest.fixture
def postgres() -> Iterator[Connection]:
    with closing(connect(PostgresSettings(postgres_host=POSTGRES_HOST), "tests")) as connection:
        yield connection


@pytest.fixture
def add(postgres: Connection) -> Iterator[Add]:
    """Stores predictions, which are deleted at the end."""

    def store_lines(*lines: str) -> None:
        with postgres, postgres.cursor() as cursor:
            create_days(cursor, [datetime.now(UTC).date()], ["predictions"])
            cursor.execute(INSERT, (f"[{','.join(lines)}]",))

    yield store_lines
    with postgres, postgres.cursor() as cursor:
        cursor.execute("delete from predictions where position is null and event_time < '2020-01-01'")


def run(**request: Any) -> dict[str, Any]:
    """The report on the two days."""
    with trino_cursor(TrinoSettings(trino_host=TRINO_HOST), user="tests") as cursor:
        return backtest.run(cursor, PERIOD | request, lambda *_: None)


def draft(connection: Connection, when: str) -> store.Version:
    """A rule that nothing evaluates."""
    content = Content("rule", when, "challenge", False, "tests", "", 100, None)
    with connection, connection.cursor() as cursor:
        return store.create_rule(cursor, f"backtest-{uuid.uuid4().hex[:12]}", content, "tests", "")


@pytest.mark.parametrize("when", CONDITIONS)
def test_hits_are_those_that_serving_had(history: History, postgres: Connection, add: Add, when: str) -> None:
    """Of the same payments, with unknown groups, missing fields and amounts at the edge."""
    rule = draft(postgres, when)
    payments = any_payments(CONDITIONS.index(when))
    nothing = {"fired": [], "shadow": [], "threw": [], "suppressed": []}
    add(
        *(
            each.line(rule_results=nothing | {"fired": [[rule.rule_id, 1]] if each.fires(when) else []})
            for each in payments
        )
    )
    hits = sum(each.fires(when) for each in payments)
    assert 0 < hits < PAYMENTS
    report = run(rule=rule.name)
    assert report["hits"]["payments"] == hits
    assert report["recorded"] == {"hits": hits, "hits_here": hits}
    assert report["payments"]["from_predictions"] == report["payments"]["unknown_labels"] == PAYMENTS


def test_a_payment_is_counted_once_with_its_label(history: History, add: Add) -> None:
    """As serving saw it where it did, else as history says; and as it was scored first."""
    both, twice, only_history = scored("both"), scored("twice", 60), scored("history", 120)
    unscored, missed = scored("unscored", 180), scored("missed", 240, amount=10.0)
    history.add(both, fraud=True)
    history.add(only_history, learned=True)
    history.add(unscored, with_score=False)
    history.add(missed, fraud=True)
    later = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    add(both.line(), twice.line(), twice.line(predicted_at=later, amount=1.0))
    report = run(when="amount > 500 and (fraud_probability < 0.5 or transactions_1h = 0)")
    assert report["payments"] == {
        "total": 5, "from_predictions": 2, "from_history": 3, "without_score": 1, "learned_from": 1, "frauds": 2,
        "unknown_labels": 1, "declined": 0, "held_out": 0, "without_exchange_rate": 0,
    }  # fmt: skip
    assert report["hits"]["payments"] == 4
    assert report["hits"]["amount"] == 2400.0
    assert (report["precision"]["value"], report["precision"]["of"]) == (1 / 3, 3)
    assert report["recall"]["value"] == 1 / 2
    examples = report["examples"]
    assert [each["transaction_id"] for each in examples["frauds"]] == [both.name]
    assert {each["transaction_id"] for each in examples["legitimate"]} == {only_history.name, unscored.name}
    assert [each["transaction_id"] for each in examples["missed"]] == [missed.name]
    assert examples["frauds"][0]["transactions_1h"] == 0.0


def test_declined_and_held_out_payments_are_apart(history: History, add: Add) -> None:
    declined, held_out = scored("declined"), scored("held out", 60)
    history.add(declined, held_out, fraud=True)
    add(declined.line(decision="decline"), held_out.line(held_out=True))
    report = run(when="amount > 500")
    assert report["precision"]["of"] == 1
    assert (report["declined"]["hits"], report["held_out"]["precision"]["value"]) == (1, 1.0)


def test_membership_of_lists_is_as_of_the_decision(history: History, postgres: Connection, add: Add) -> None:
    name = f"backtest-{uuid.uuid4().hex[:12]}"
    before, since, other = scored("before", user="listed"), scored("since", 60, user="listed"), scored("other", 120)
    now = datetime.now(UTC)
    with postgres, postgres.cursor() as cursor:
        cursor.execute(
            "insert into lists (list_name, about, needs_approval, created_by) values (%s, 'user_id', false, 'tests')",
            (name,),
        )
        cursor.execute(
            "insert into list_entries (list_name, value, valid_from, added_by) values (%s, 'listed', %s, 'tests')",
            (name, now),
        )
    add(
        before.line(predicted_at=(now - timedelta(seconds=1)).isoformat()),
        since.line(predicted_at=now.isoformat()),
        other.line(predicted_at=now.isoformat()),
    )
    assert run(when=f"in_list(user_id, '{name}')")["hits"]["payments"] == 1
    assert run(when=f"not in_list(user_id, '{name}')")["hits"]["payments"] == 2
    # Of a list that does not exist nothing is known.
    assert run(when="not in_list(user_id, 'there-is-no-such-list')")["hits"]["payments"] == 0


def test_what_the_archive_has_is_read_like_predictions(history: History, add: Add) -> None:
    """Its rows are those of Postgres; JSON is text there."""
    each = scored("archived", unknown=("user",))
    query(
        f"create table delta.{history.schema}.predictions_archive as select 'p' as prediction_id,"
        f" '{each.name}' as transaction_id, 'u' as user_id, 'm' as merchant_id, 600e0 as amount,"
        f" false as is_international, timestamp '2019-03-01 00:00:00.000 UTC' as event_time,"
        " 0.01e0 as fraud_probability, 'low' as risk_tier, 'stream' as feature_source,"
        """ '{"transactions_1h": 3.0, "event_hour": 0.1, "hour_share_30d": null}' as features,"""
        " timestamp '2019-03-01 00:00:01.000 UTC' as predicted_at, 'approve' as decision, 'user' as unknown_features,"
        """ '{"fired": [[7, 2]], "shadow": [], "suppressed": []}' as rule_results, false as held_out,"""
        " 'EUR' as currency, date '2019-03-01' as day"
    )
    try:
        assert run(when="amount > 500 and transactions_1h is null and country is null")["hits"]["payments"] == 1
        # 0.1 as a float32 is more than 0.1.
        assert run(when="event_hour > 0.1 and hour_share_30d is null")["hits"]["payments"] == 1
    finally:
        query(f"drop table delta.{history.schema}.predictions_archive")


def test_a_threshold_of_the_model_is_compared_with_the_tier(history: History) -> None:
    history.add(scored("both", score=0.6, tier="high"), fraud=True)
    history.add(scored("new", 60, score=0.4, tier="medium"))
    report = run(threshold=0.3)
    change = {name: part["payments"] for name, part in report["change"].items()}
    assert change == {"both": 1, "added": 1, "dropped": 0}
    points = {point["threshold"]: point["hits"] for point in report["curve"]["points"]}
    assert (points[0.3], points[0.5], points[0.7]) == (2, 1, 0)
    # An analyst would look at the new one.
    assert report["marginal"]["newly_queued"] == 1


def test_the_newest_matured_day_is_the_last_one_by_default(history: History) -> None:
    history.add(scored("first"), scored("second", 86_400))
    with trino_cursor(TrinoSettings(trino_host=TRINO_HOST), user="tests") as cursor:
        report = backtest.run(cursor, {"when": "amount > 1", "days": 1}, lambda *_: None)
    assert report["period"] == {"from": "2019-03-02", "to": "2019-03-02", "days": 1}
    assert report["hits"]["payments"] == 1
    assert date.fromisoformat(report["by_day"][0]["day"]) == date(2019, 3, 2)

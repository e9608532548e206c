"""The service rules-worker on a real Postgres: scorecards, the guard against runaways, and backtests as jobs."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from audit.sink import INSERT
from fraud_common.days import create_days
from fraud_common.settings import PostgresSettings
from fraud_db.migrate import upgrade
from model_quality import store as labels_store
from own_database import own_database
from predictions import line
from prometheus_client.parser import text_string_to_metric_families
from psycopg2.extensions import connection as Connection
from rules import jobs, runaway, scorecards, store, watch, worker
from rules.command import table
from rules.scorecard import get_scorecards
from rules.store import Content
from serving_stack import wait_until

PORT = 19409
NEWEST = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings() -> Iterator[PostgresSettings]:
    with own_database() as found:
        upgrade(found)
        yield found


@pytest.fixture
def database(settings: PostgresSettings) -> Iterator[Connection]:
    with closing(worker.open_connection(settings)) as connection:
        with connection, connection.cursor() as cursor:
            create_days(cursor, [datetime.now(UTC).date()], ["predictions", "prediction_reasons"])
            cursor.execute("truncate labels, rule_days, rule_hours, decision_days, rule_label_changes, backtests")
            cursor.execute("update quality_clock set newest_label = null")
        yield connection


def rule(connection: Connection, name: str, to: str = "live", **changes: Any) -> int:
    """The id of a new rule, in force."""
    content = {
        "lane": "rule", "when": "amount > 500", "answer": "challenge", "queue": False, "owner": "fraud-ops",
        "note": "", "rollout_percent": 100, "expires_at": None,
    }  # fmt: skip
    with connection, connection.cursor() as cursor:
        version = store.create_rule(cursor, name, Content(**content | changes), "ana", "")
        store.submit(cursor, name, 1, "ana", "")
        store.approve(cursor, name, 1, to, "ben", "", four_eyes=True)
    return version.rule_id


def predict(connection: Connection, *payments: dict[str, Any]) -> None:
    """Store predictions as the API's workers do."""
    with connection, connection.cursor() as cursor:
        cursor.execute(INSERT, (f"[{b','.join(scored(**payment) for payment in payments).decode()}]",))


def scored(name: str, fired: list[int], **changes: Any) -> bytes:
    """A prediction of tier low, and the live rules that fired."""
    results = {"fired": [[rule_id, 1] for rule_id in fired], "shadow": [], "threw": [], "suppressed": []}
    row: dict[str, Any] = {
        "event_time": NEWEST.isoformat(),
        "predicted_at": datetime.now(UTC).isoformat(),
        "fraud_probability": 0.25,
        "amount": 10.0,
        "currency": "EUR",
        "decision": "challenge" if fired else "approve",
        "queue": False,
        "held_out": False,
        "rule_results": results | {"model": "approve"},
    }
    return line(name, **row | changes)


def say(connection: Connection, name: str, is_fraud: bool = True, reported: datetime = NEWEST) -> None:
    """Store a label."""
    label = {
        "transaction_id": name, "user_id": "u", "is_fraud": is_fraud, "fraud_type": None, "event_time": NEWEST,
        "reported_at": reported,
    }  # fmt: skip
    labels_store.store_labels(connection, [label])


def count_all(connection: Connection) -> None:
    while scorecards.count(connection):
        pass
    scorecards.mature(connection)


def rows(connection: Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def card(connection: Connection, name: str, state: str = "live") -> dict[str, Any]:
    """The scorecard of a rule."""
    with connection, connection.cursor() as cursor:
        cursor.execute("select * from rule_scorecards where name = %s and state = %s", (name, state))
        (row,) = cursor.fetchall()
        return dict(zip([column.name for column in cursor.description], row, strict=True))


def test_each_payment_counts_once_whenever_its_label_comes(database: Connection) -> None:
    one, other = rule(database, "counted-one"), rule(database, "counted-other", queue=True)
    say(database, "before")
    say(database, "before, cleared")
    say(database, "before, cleared", is_fraud=False, reported=NEWEST + timedelta(hours=1))
    names = ("before", "before, cleared", "after", "after, cleared", "never", "twice")
    predict(database, *({"name": name, "fired": [one, other]} for name in names))
    predict(database, {"name": "twice", "fired": [one]}, {"name": "nothing", "fired": []})
    count_all(database)
    for name in ("after", "after, cleared", "nothing", "never scored"):
        say(database, name)
    count_all(database)
    say(database, "after, cleared", is_fraud=False, reported=NEWEST + timedelta(hours=1))
    # What is read again changes nothing.
    say(database, "after")
    count_all(database)
    count_all(database)
    assert (
        rows(database, "select hits, queue_hits, amount, expected_frauds, frauds, matured from rule_days")
        == [(6, 0, 60.0, 1.5, 2, 0)] * 2
    )
    assert rows(database, "select decision, queue, payments, frauds from decision_days order by 1") == [
        ("approve", False, 1, 1), ("challenge", False, 6, 2),
    ]  # fmt: skip
    assert rows(database, "select count(*) from rule_label_changes") == [(0,)]


def test_a_label_that_is_being_stored_meanwhile_counts_once(database: Connection, settings: PostgresSettings) -> None:
    """For the payment that was counted before, it is a change; for the other one it is there, and the change is not."""
    rule_id = rule(database, "meanwhile")
    predict(database, {"name": "counted before", "fired": [rule_id]})
    with closing(worker.open_connection(settings)) as other, other.cursor() as cursor:
        for name in ("counted before", "counted after"):
            cursor.execute(
                "insert into labels (transaction_id, user_id, is_fraud, event_time, reported_at) "
                "values (%s, 'u', true, %s, %s)",
                (name, NEWEST, NEWEST),
            )
        count_all(database)
        assert rows(database, "select hits, frauds from rule_days") == [(1, 0)]
        other.commit()
    predict(database, {"name": "counted after", "fired": [rule_id]})
    count_all(database)
    assert rows(database, "select hits, frauds from rule_days") == [(2, 2)]
    assert rows(database, "select sum(frauds) from decision_days") == [(2,)]


def test_a_scorecard_has_precision_with_its_interval_and_what_the_model_misses(
    database: Connection, settings: PostgresSettings
) -> None:
    rule_id = rule(database, "carded", answer="decline")
    by_list = rule(database, "carded-shadow", to="shadow", answer="approve", queue=True)
    results = {"fired": [[rule_id, 1]], "shadow": [[by_list, 1]], "threw": [], "suppressed": []}
    declined = {"rule_results": results | {"model": "decline"}, "risk_tier": "high", "queue": True}
    missed = {"rule_results": results | {"model": "approve"}, "risk_tier": "low", "currency": "XXX"}
    predict(database, *({"name": f"declined {n}", "fired": [], **declined} for n in range(30)))
    predict(database, *({"name": f"missed {n}", "fired": [], **missed} for n in range(10)))
    for name in ("declined 1", "declined 2", "declined 3", "missed 1"):
        say(database, name)
    count_all(database)
    before = card(database, "carded")
    assert (before["hits"], before["frauds"], before["matured"], before["precision"]) == (40, 4, 0, None)
    say(database, "another", reported=NEWEST + timedelta(days=14))
    count_all(database)

    live = card(database, "carded")
    assert (live["hits"], live["queue_hits"], live["matured"], live["matured_frauds"]) == (40, 30, 40, 4)
    assert live["amount"] == 300.0, "the amounts whose rate is known"
    # Wilson's interval of 4 in 40, as statsmodels' proportion_confint gives it.
    assert (live["precision"], live["precision_low"], live["precision_high"]) == (
        0.1, pytest.approx(0.03958, abs=1e-4), pytest.approx(0.23052, abs=1e-4),
    )  # fmt: skip
    assert live["expected_precision"] == live["matured_expected_precision"] == 0.25
    assert (live["marginal_hits"], live["marginal_precision"]) == (10, 0.1), "the model declines the others"
    with database, database.cursor() as cursor:
        (answered,) = get_scorecards(cursor, "carded")
    assert asdict(answered).items() <= live.items()
    (line_of_rule,) = [line for line in table(settings).splitlines() if line.startswith("carded  ")]
    assert "10.0 % (4.0 to 23.1) of 40" in line_of_rule
    shadow = card(database, "carded-shadow", "shadow")
    assert (shadow["hits"], shadow["marginal_hits"]) == (40, 10), "the model queues the others"


def test_a_runaway_pauses_itself_and_what_it_did_does_not_count_again(database: Connection) -> None:
    quiet, wild, unknown = (rule(database, f"guard-{name}") for name in ("quiet", "wild", "unknown"))
    with database, database.cursor() as cursor:
        for rule_id, expected in ((quiet, 20.0), (wild, 3.0)):
            store.set_expected_hits(cursor, rule_id, 1, expected, "ben", "")
    # A payment an hour of three days does not add up; and one of a wrong date hides nothing.
    fired = [quiet, wild, unknown]
    times = [NEWEST + timedelta(minutes=n % 60) for n in range(99)] + [NEWEST - timedelta(days=n) for n in (1, 2, 400)]
    predict(database, *({"name": f"r{n}", "fired": fired, "event_time": at.isoformat()} for n, at in enumerate(times)))
    count_all(database)
    assert [each for each in runaway.guarded(database) if each.is_runaway] == []
    predict(database, {"name": "the hundredth", "fired": fired})
    count_all(database)
    (found,) = [each for each in runaway.guarded(database) if each.is_runaway]
    assert (found.name, found.hits, found.expected) == ("guard-wild", 100, 3.0)
    newest = watch.look(database).newest_ruleset

    assert worker.pause(database, found)
    assert not worker.pause(database, found), "somebody was faster"
    watched = watch.look(database)
    assert watched.paused_itself == ["guard-wild"]
    assert watched.newest_ruleset > newest
    assert "guard-wild" not in watched.days_without_hit
    assert 0 <= watched.days_without_hit["guard-quiet"] < 0.01
    (event,) = rows(database, "select by, reason from rule_events where to_state = 'paused'")
    assert event[0] == "rules-worker" and "100 hits" in event[1] and "3.0 a day" in event[1]

    with database, database.cursor() as cursor:
        store.submit(cursor, "guard-wild", 1, "ana", "an attack")
    assert watch.look(database).paused_itself == []
    with database, database.cursor() as cursor:
        store.approve(cursor, "guard-wild", 1, "live", "ben", "", four_eyes=True)
        cursor.execute("delete from rule_hours")
    # Some of before the pause are counted late.
    late = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    predict(database, *({"name": f"late{n}", "fired": [wild], "predicted_at": late} for n in range(200)))
    count_all(database)
    assert [each for each in runaway.guarded(database) if each.is_runaway] == []


def ask(connection: Connection, **request: Any) -> int:
    query = "insert into backtests (requested_by, request) values ('ana', %s) returning backtest_id"
    return rows(connection, query, json.dumps(request))[0][0]


def state_of(connection: Connection, backtest_id: int) -> tuple[str, str]:
    return rows(connection, "select state, message from backtests where backtest_id = %s", backtest_id)[0]


def test_a_backtest_is_run_again_once_when_its_worker_is_killed(
    database: Connection, settings: PostgresSettings
) -> None:
    first, second = ask(database, when="amount > 5"), ask(database, when="amount > 6")
    for attempt in (1, 2):
        # A connection that breaks is what a kill leaves.
        with closing(worker.open_connection(settings)) as killed:
            # Postgres frees the lock of a broken connection a moment later.
            job = wait_until(partial(jobs.take, killed), "the lock is free")
            assert (job.backtest_id, job.request) == (first, {"when": "amount > 5"})
            jobs.report_progress(killed, job, 0.5, f"attempt {attempt}")
            assert jobs.take(database) is None, "one worker at a time"
            assert state_of(database, first) == ("running", f"attempt {attempt}")
    wait_until(lambda: jobs.take(database), "the lock of the killed worker is free")
    state, message = state_of(database, first)
    assert state == "failed" and "ask for fewer days" in message
    # The next one is running now; somebody cancels it.
    rows(database, "update backtests set state = 'cancelled' where backtest_id = %s returning 1", second)
    with pytest.raises(jobs.CancelledError):
        jobs.report_progress(database, jobs.Job(second, {}), 0.1, "")
    with database, database.cursor() as cursor:
        assert not jobs.finish(cursor, jobs.Job(second, {}), {"hits": 1})
    assert state_of(database, second)[0] == "cancelled"


def test_a_worker_that_is_asked_to_stop_lets_its_backtest_wait_again(
    database: Connection, settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an attempt of its own, although the query of Trino has not ended."""
    stop, asked, answer = threading.Event(), threading.Event(), threading.Event()

    def ask_trino(*_: Any) -> dict[str, Any]:
        asked.set()
        answer.wait(30)
        return {"rule": {"rule_id": None}}

    monkeypatch.setattr(worker, "asked", ask_trino)
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.1)
    backtest_id = ask(database, when="amount > 5")
    running = worker.Backtests(worker.Settings(**settings.model_dump()), stop)
    running.start()
    assert asked.wait(10)
    stop.set()
    running.end()
    answer.set()
    running.join(10)
    assert state_of(database, backtest_id) == ("waiting", "waits again: the worker was stopped")
    assert rows(database, "select attempts, report is null from backtests where backtest_id = %s", backtest_id) == [
        (0, True)
    ]


@contextmanager
def working(settings: PostgresSettings) -> Iterator[None]:
    environment = {
        "POSTGRES_HOST": settings.postgres_host,
        "FRAUD_DB_NAME": settings.fraud_db_name,
        "FRAUD_DB_PASSWORD": settings.fraud_db_password,
        "METRICS_PORT": str(PORT),
        "RULES_WATCH_SECONDS": "0.2",
        # Nothing listens there.
        "TRINO_HOST": "localhost",
        "TRINO_PORT": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "rules.worker"], env=os.environ | environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def metrics() -> dict[str, float]:
    """The samples of the worker, by name and the value of their label."""
    try:
        text = httpx2.get(f"http://localhost:{PORT}/metrics", timeout=5).text
    except httpx2.HTTPError:
        return {}
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_service_counts_guards_and_says_why_a_backtest_fails(
    database: Connection, settings: PostgresSettings
) -> None:
    served = rule(database, "served")
    with database, database.cursor() as cursor:
        store.set_expected_hits(cursor, served, 1, 0.0, "ben", "")
    predict(database, *({"name": f"served {n}", "fired": [served]} for n in range(120)))
    wrong, no_trino = ask(database, when="amount >"), ask(database, rule="served", days=3)
    with working(settings):
        wait_until(lambda: metrics().get("fraud_rule_paused_itself_total served") == 1, "the guard has paused it")
        wait_until(lambda: state_of(database, no_trino)[0] == "failed", "both backtests have ended")
        assert metrics()["rules_worker_running"] == 1
        assert metrics()["fraud_rule_is_paused_by_guard served"] == 1
        assert metrics()["fraud_ruleset_newest"] == rows(database, "select max(ruleset_id) from rulesets")[0][0]
        assert metrics()["fraud_rules paused"] >= 1
    assert rows(database, "select state from rule_versions where rule_id = %s", served) == [("paused",)]
    assert state_of(database, wrong)[0] == "failed"
    assert "Trino does not answer at localhost:1" in state_of(database, no_trino)[1]

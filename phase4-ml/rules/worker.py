"""Runs backtests, counts what rules do, and pauses a rule that fires far more than it should.

python -m rules.worker

Upstream are the predictions and labels in Postgres, and the jobs that the API stores; downstream are the scorecards,
the reports of backtests, the rulesets (a paused rule makes a new one) and Prometheus. What a kill interrupts is
repeated: counts and their position are one transaction, and a backtest that had begun waits again.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from fraud_common.errors import Stopping, UserError
from fraud_common.postgres import PatientConnection, connect
from fraud_common.service import ServiceSettings, run_service
from fraud_common.settings import PostgresSettings, TrinoSettings
from fraud_common.trino import trino_cursor
from prometheus_client import Counter, Gauge
from psycopg2 import DataError
from psycopg2.extensions import connection as Connection
from pydantic import Field

from rules import backtest, jobs, runaway, scorecards, store, watch
from rules.errors import RuleError
from rules.language import parse
from rules.refusals import RefusedChangeError
from rules.states import STATES

log = logging.getLogger("rules.worker")

SECONDS_BETWEEN_LOOKS = 1.0
# Of those that the container has until it is killed.
STOP_SECONDS = 10.0

RUNNING = Gauge("rules_worker_running", "1 while Postgres answers, and rules are counted")
BEHIND = Gauge("rules_worker_predictions_behind", "1 while there are stored predictions that are not counted yet")
BACKTESTS = Counter("rules_worker_backtests", "Backtests that have ended", ["outcome"])
VERSIONS = Gauge("fraud_rules", "Versions of rules, by state", ["state"])
NEWEST = Gauge("fraud_ruleset_newest", "The ruleset that should be in force")
WITHOUT_HIT = Gauge(
    "fraud_rule_days_without_hit", "Days since a live rule has fired, or since it became live", ["rule"]
)
PAUSED_ITSELF = Counter("fraud_rule_paused_itself", "How often the guard has paused a rule", ["rule"])
IS_PAUSED = Gauge(
    "fraud_rule_is_paused_by_guard", "1 for a rule that the guard has paused, until it is changed", ["rule"]
)
OUTCOMES = ("done", "failed", "cancelled")
# The share of payments of which a backtest may not know what the rule reads, and still say how many hits to expect.
MOST_BLIND = 0.1


class Settings(ServiceSettings, PostgresSettings, TrinoSettings):
    """Where it reads, and how often it updates what Prometheus scrapes."""

    rules_watch_seconds: float = Field(default=5.0, gt=0)
    metrics_port: int = Field(default=9409, ge=0, le=65535)


def run(settings: Settings, stop: threading.Event) -> None:
    """Count and watch, until SIGTERM; a thread of its own runs the backtests.

    Raises:
        Stopping: SIGTERM came while Postgres did not answer.
        RuntimeError: the thread has ended; the service is started again.
    """
    for outcome in OUTCOMES:
        BACKTESTS.labels(outcome)
    backtests = Backtests(settings, stop)
    backtests.start()
    postgres = PatientConnection(lambda: open_connection(settings), stop, RUNNING.set)
    look_at = 0.0
    try:
        while not stop.is_set():
            more = postgres.until_answered(scorecards.count)
            BEHIND.set(more)
            if time.monotonic() >= look_at:
                pause_runaways(postgres)
                postgres.until_answered(scorecards.mature)
                set_gauges(postgres.until_answered(watch.look))
                look_at = time.monotonic() + settings.rules_watch_seconds
            if not backtests.is_alive() and not stop.is_set():
                raise RuntimeError("the thread that runs backtests has ended")
            if not more:
                stop.wait(SECONDS_BETWEEN_LOOKS)
    finally:
        RUNNING.set(0)
    backtests.end()


def open_connection(settings: PostgresSettings) -> Connection:
    """A connection to the database of rules and predictions.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    return connect(settings, "rules-worker")


def pause_runaways(postgres: PatientConnection) -> None:
    """Pause each live rule that fires far more than its backtest expects."""
    for rule in postgres.until_answered(runaway.guarded):
        if rule.is_runaway and postgres.until_answered(pause, rule):
            PAUSED_ITSELF.labels(rule.name).inc()
            log.warning("rule %s, version %s %s", rule.name, rule.version, rule.reason)


def pause(connection: Connection, rule: runaway.LiveRule) -> bool:
    """Pause a rule; the ruleset without it is in force when this returns.

    Returns:
        False if somebody was faster.
    """
    try:
        with connection, connection.cursor() as cursor:
            store.pause(cursor, rule.name, rule.version, by=watch.GUARD, reason=rule.reason)
    except RefusedChangeError:
        return False
    return True


def set_gauges(watched: watch.Watched) -> None:
    """Publish what is so now; a rule that is not live any more has no days without a hit."""
    for state in STATES:
        VERSIONS.labels(state).set(watched.by_state.get(state, 0))
    NEWEST.set(watched.newest_ruleset)
    WITHOUT_HIT.clear()
    for name, days in watched.days_without_hit.items():
        WITHOUT_HIT.labels(name).set(days)
    IS_PAUSED.clear()
    for name in watched.paused_itself:
        IS_PAUSED.labels(name).set(1)


class Backtests(threading.Thread):
    """Runs one backtest after the other, until the event is set."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        """Nothing runs yet."""
        super().__init__(name="backtests", daemon=True)
        self._settings, self._stop_requested = settings, stop
        self._job: jobs.Job | None = None

    def run(self) -> None:
        """Take jobs and run them."""
        postgres = PatientConnection(lambda: open_connection(self._settings), self._stop_requested, lambda _: None)
        try:
            while not self._stop_requested.is_set():
                self._job = postgres.until_answered(jobs.take)
                if self._job:
                    run_job(self._settings, postgres, self._job, self._stop_requested)
                else:
                    self._stop_requested.wait(SECONDS_BETWEEN_LOOKS)
        except Stopping:
            # Postgres did not answer: the next worker finds the job.
            return

    def end(self) -> None:
        """Wait for a moment until it ends; a query of Trino may take longer, and then its job waits again.

        Raises:
            psycopg2.Error: Postgres does not answer; the next worker finds the job.
        """
        self.join(STOP_SECONDS)
        if self.is_alive() and self._job:
            with closing(open_connection(self._settings)) as connection:
                jobs.put_back(connection, self._job)


def run_job(settings: Settings, postgres: PatientConnection, job: jobs.Job, stop: threading.Event) -> None:
    """Run a backtest and store its report, or why there is none.

    Raises:
        Stopping: SIGTERM came while Postgres did not answer.
    """

    def on_progress(progress: float, message: str) -> None:
        if stop.is_set():
            raise Stopping("a backtest was running; it waits again")
        postgres.until_answered(jobs.report_progress, job, progress, message)

    log.info("backtest %s: %s", job.backtest_id, job.request)
    try:
        report = asked(settings, job.request, on_progress)
        postgres.until_answered(finish, job, report)
    except jobs.CancelledError:
        outcome = "cancelled"
    except Stopping:
        postgres.until_answered(jobs.put_back, job)
        return
    except (UserError, RuleError) as error:
        outcome = "failed"
        postgres.until_answered(jobs.fail, job, str(error))
    except Exception as error:
        # Whatever it is, the next job is run.
        outcome = "failed"
        log.exception("backtest %s", job.backtest_id)
        postgres.until_answered(
            jobs.fail, job, f"{type(error).__name__}: {error!s:.300}; docker compose logs rules-worker has the rest"
        )
    else:
        outcome = "done"
    BACKTESTS.labels(outcome).inc()
    log.info("backtest %s: %s", job.backtest_id, outcome)


def finish(connection: Connection, job: jobs.Job, report: dict[str, Any]) -> None:
    """Store the report, and with it what to expect of the version that it is about, for the guard.

    Raises:
        UserError: Postgres does not take the report, however often it is tried.
    """
    rule = report["rule"]
    with connection, connection.cursor() as cursor:
        try:
            is_stored = jobs.finish(cursor, job, report)
        except DataError as error:
            raise UserError(f"Postgres can't store the report: {str(error).strip():.300}") from error
        if is_stored and rule["rule_id"] is not None and says_what_to_expect(report):
            store.set_expected_hits(
                cursor,
                rule["rule_id"],
                rule["version"],
                report["hits"]["per_day"],
                by=watch.GUARD,
                reason=f"{rule['name']} version {rule['version']}: backtest {job.backtest_id}",
            )


def says_what_to_expect(report: dict[str, Any]) -> bool:
    """Whether the rule's hits in history are those that it would have live, for all but a few payments.

    A condition on a score is unknown where there is none, and lists are newer than history.
    """
    expression, payments = parse(report["rule"]["when"]), report["payments"]
    blind = payments["without_score"] if {"fraud_probability", "risk_tier"} & set(expression.names) else 0
    if expression.lists:
        blind = payments["from_history"]
    return blind <= MOST_BLIND * payments["total"]


def asked(settings: Settings, request: dict[str, Any], on_progress: Callable[[float, str], None]) -> dict[str, Any]:
    """The report of a backtest.

    Raises:
        UserError: Trino does not answer or lacks a table, or the request can't be run.
        RuleError: the rule is not valid.
        CancelledError: it was cancelled.
        Stopping: SIGTERM came.
    """
    with trino_cursor(settings, "rules-worker", settings.gold_schema) as cursor:
        return backtest.run(cursor, request, on_progress)


if __name__ == "__main__":
    run_service(Settings, run)

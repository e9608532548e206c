"""Backtests in Postgres: what people ask for, how far it is, and the reports. rules/worker.py runs them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor

from rules import store
from rules.refusals import ConflictError, NotFoundError

# They run one after the other; more than these would wait for hours.
MAX_WAITING = 20

_COLUMNS = """
    backtest_id, requested_by, requested_at, request, state, progress, message, started_at, finished_at
"""


@dataclass(frozen=True, slots=True)
class Backtest:
    """One backtest, without its report."""

    backtest_id: int
    requested_by: str
    requested_at: datetime
    request: dict[str, Any]
    state: str
    progress: float
    message: str
    started_at: datetime | None
    finished_at: datetime | None


def ask(cursor: Cursor, request: dict[str, Any], by: str) -> Backtest:
    """Put a backtest in the queue.

    Args:
        request: the fields that rules/backtest/request.py reads; a rule without a version is its newest one.

    Raises:
        NotFoundError: it is about a rule or a version that does not exist.
        InvalidError: its condition is wrong.
        ConflictError: too many wait already.
    """
    if rule := request.get("rule"):
        version = request.get("version") or store.versions_of(cursor, rule)[0].version
        request = request | {"version": store.get_version(cursor, rule, version).version}
    if other := request.get("compare_to"):
        store.rule_id_of(cursor, other)
    if (when := request.get("when")) is not None:
        store.check_condition(cursor, when, request.get("answer", "challenge"), request.get("lane", "rule"))
    cursor.execute("select count(*) from backtests where state = 'waiting'")
    ((waiting,),) = cursor.fetchall()
    if waiting >= MAX_WAITING:
        raise ConflictError(f"{waiting} backtests are waiting; wait for one, or cancel one")
    cursor.execute(
        f"insert into backtests (request, requested_by) values (%s, %s) returning {_COLUMNS}", (json.dumps(request), by)
    )
    return Backtest(*cursor.fetchall()[0])


def list_backtests(cursor: Cursor, before: int | None, limit: int) -> list[Backtest]:
    """So many of them, the newest first.

    Args:
        before: only those that were asked for before this one.
    """
    cursor.execute(
        f"select {_COLUMNS} from backtests where %(before)s is null or backtest_id < %(before)s "
        "order by backtest_id desc limit %(limit)s",
        {"before": before, "limit": limit},
    )
    return [Backtest(*row) for row in cursor.fetchall()]


def get_backtest(cursor: Cursor, backtest_id: int) -> tuple[Backtest, dict[str, Any] | None]:
    """A backtest with its report, if it is done.

    Raises:
        NotFoundError: there is none with this id.
    """
    cursor.execute(f"select {_COLUMNS}, report from backtests where backtest_id = %s", (backtest_id,))
    found = cursor.fetchall()
    if not found:
        raise NotFoundError(f"there is no backtest {backtest_id}")
    return Backtest(*found[0][:-1]), found[0][-1]


def cancel(cursor: Cursor, backtest_id: int, by: str) -> Backtest:
    """End a backtest that waits or runs; it has no report then.

    Raises:
        NotFoundError: there is none with this id.
        ConflictError: it has ended.
    """
    cursor.execute(
        "update backtests set state = 'cancelled', message = %s, finished_at = now() "
        f"where backtest_id = %s and state in ('waiting', 'running') returning {_COLUMNS}",
        (f"cancelled by {by}", backtest_id),
    )
    found = cursor.fetchall()
    if not found:
        known, _ = get_backtest(cursor, backtest_id)
        raise ConflictError(f"backtest {backtest_id} is {known.state}")
    return Backtest(*found[0])

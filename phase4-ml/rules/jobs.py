"""Backtests as jobs: the oldest that waits is run, its progress and report are stored, and its end is always stored.

The API puts jobs into the table `backtests` (backtests_table.py). One worker at a time runs them, under an advisory
lock; if it is killed, the next one puts its job back, once: a job that ends a worker twice would do so for ever.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

MAX_ATTEMPTS = 2

_LOCK = "select pg_try_advisory_lock(hashtext('rules.backtests'))"
_RECOVER = """
update backtests set
    state = case when attempts < %(most)s then 'waiting' else 'failed' end,
    progress = 0,
    message = case
        when attempts < %(most)s then 'waits again: the worker ended while it ran'
        else 'the worker has ended twice while it ran; it may need more memory than the worker has: ask for fewer days'
    end,
    finished_at = case when attempts < %(most)s then null else now() end
where state = 'running'
"""
_TAKE = """
update backtests set
    state = 'running', progress = 0, message = 'starts', started_at = now(), finished_at = null, attempts = attempts + 1
where backtest_id = (
    select backtest_id from backtests where state = 'waiting' order by backtest_id limit 1 for update skip locked
) and state = 'waiting'
returning backtest_id, request
"""
_PROGRESS = """
update backtests set progress = greatest(progress, %s), message = %s where backtest_id = %s and state = 'running'
"""
_DONE = """
update backtests set state = 'done', progress = 1, message = '', report = %s, finished_at = now()
where backtest_id = %s and state = 'running'
"""
_FAILED = """
update backtests set state = 'failed', message = %s, finished_at = now()
where backtest_id = %s and state = 'running'
"""
# Not an attempt of its own: the worker was asked to stop.
_PUT_BACK = """
update backtests set state = 'waiting', progress = 0, message = 'waits again: the worker was stopped',
    started_at = null, attempts = attempts - 1
where backtest_id = %s and state = 'running'
"""


class CancelledError(Exception):
    """Somebody has cancelled the job while it ran."""


@dataclass(frozen=True, slots=True)
class Job:
    """A backtest that somebody asked for."""

    backtest_id: int
    request: dict[str, Any]


def take(connection: Connection) -> Job | None:
    """The oldest job that waits, which is running from now on; before that, what a killed worker left is put back.

    The caller runs no other job, and is the only worker that runs any for as long as its connection lasts.

    Returns:
        None if no job waits, or another worker runs them.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(_LOCK)
        ((is_ours,),) = cursor.fetchall()
        if not is_ours:
            return None
        cursor.execute(_RECOVER, {"most": MAX_ATTEMPTS})
        cursor.execute(_TAKE)
        found = cursor.fetchall()
    return Job(*found[0]) if found else None


def report_progress(connection: Connection, job: Job, progress: float, message: str) -> None:
    """Store how far a job is, from 0 to 1, and what it is doing.

    Raises:
        CancelledError: it is not running any more.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(_PROGRESS, (min(max(progress, 0.0), 1.0), message, job.backtest_id))
        if cursor.rowcount == 0:
            raise CancelledError


def finish(cursor: Cursor, job: Job, report: dict[str, Any]) -> bool:
    """Store the report; the caller commits. False if the job was cancelled meanwhile, which it stays."""
    cursor.execute(_DONE, (json.dumps(report, default=_plain), job.backtest_id))
    return bool(cursor.rowcount)


def fail(connection: Connection, job: Job, why: str) -> None:
    """Store why there is no report."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_FAILED, (why, job.backtest_id))


def put_back(connection: Connection, job: Job) -> None:
    """Let a job wait again: the worker was asked to stop."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_PUT_BACK, (job.backtest_id,))


def _plain(value: Any) -> Any:
    """Dates and times as ISO 8601, decimals as numbers; the rest of a report is JSON already."""
    to_text: Callable[[], str] | None = getattr(value, "isoformat", None)
    return to_text() if to_text else float(value)

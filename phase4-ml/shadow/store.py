"""Payments to score and their scores in Postgres: `predictions`, `shadow_predictions`, and the cursor between them.

A chunk's scores and the cursor are one transaction, so a crash repeats a chunk and stores nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.positions import stored_until
from fraud_common.days import create_days
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.errors import CheckViolation, LockNotAvailable
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

BEGIN = """
update shadow_cursor set model_version = %(version)s, position = greatest(position, %(position)s)
where model_version is distinct from %(version)s
"""
NEXT = """
select position, prediction_id::text, transaction_id, event_time, features::text
from predictions
where position > %s and position <= %s
order by position
limit %s
"""
MOVE = "update shadow_cursor set position = %s where model_version = %s and position = %s"
INSERT = """
insert into shadow_predictions (
    position, prediction_id, transaction_id, event_time, model_version, fraud_probability, risk_tier
)
values %s
"""


@dataclass(frozen=True, slots=True)
class Payment:
    """A prediction of what serves, to be scored again."""

    position: int
    prediction_id: str
    transaction_id: str
    event_time: datetime
    # JSON, by name.
    features: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Payments after a position, and how many positions come after them."""

    after: int
    payments: list[Payment]
    left: int


@dataclass(frozen=True, slots=True)
class ShadowScore:
    """What the Staging model answers."""

    payment: Payment
    fraud_probability: float
    risk_tier: str


def open_connection(settings: PostgresSettings) -> Connection:
    """A connection to the API's database.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    return connect(settings, "shadow")


def begin(connection: Connection, version: str) -> bool:
    """Score with this version, from where it stopped; if it is new in Staging, what is stored from now on.

    Returns:
        False if it can't be said now what is stored.
    """
    try:
        newest = stored_until(connection)
    except LockNotAvailable:
        return False
    with connection, connection.cursor() as cursor:
        cursor.execute(BEGIN, {"version": version, "position": newest})
    return True


def end(connection: Connection) -> None:
    """Nothing is in Staging; the next version starts from then."""
    with connection, connection.cursor() as cursor:
        cursor.execute("update shadow_cursor set model_version = null where model_version is not null")


def next_chunk(connection: Connection, size: int) -> Chunk | None:
    """The next payments; None if it can't be said now what is stored."""
    try:
        until = stored_until(connection)
    except LockNotAvailable:
        return None
    with connection, connection.cursor() as cursor:
        cursor.execute("select position from shadow_cursor")
        ((after,),) = cursor.fetchall()
        cursor.execute(NEXT, (after, until, size))
        payments = [Payment(*row) for row in cursor.fetchall()]
    return Chunk(after, payments, until - payments[-1].position if payments else 0)


def store(connection: Connection, version: str, chunk: Chunk, scores: Sequence[ShadowScore]) -> bool:
    """Store the scores of a chunk and move the cursor behind it.

    Returns:
        False if another process has moved the cursor meanwhile; nothing is stored then.
    """
    rows = [
        (
            score.payment.position,
            score.payment.prediction_id,
            score.payment.transaction_id,
            score.payment.event_time,
            version,
            score.fraud_probability,
            score.risk_tier,
        )
        for score in scores
    ]
    try:
        return _store(connection, rows, (chunk.payments[-1].position, version, chunk.after))
    except CheckViolation:
        # The first scores of a day: there is no partition for them.
        return _store(connection, rows, (chunk.payments[-1].position, version, chunk.after), create=True)


def _store(
    connection: Connection, rows: list[tuple[Any, ...]], move: tuple[int, str, int], create: bool = False
) -> bool:
    with connection, connection.cursor() as cursor:
        if create:
            cursor.execute("select (now() at time zone 'UTC')::date")
            ((today,),) = cursor.fetchall()
            create_days(cursor, [today], ["shadow_predictions"])
        cursor.execute(MOVE, move)
        if cursor.rowcount == 0:
            return False
        if rows:
            execute_values(cursor, INSERT, rows, page_size=len(rows))
        return True

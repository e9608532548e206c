"""The table `predictions` in Postgres, and the count of payments by day, version and tier.

Storing a line twice changes nothing, so what a crash interrupts is repeated.
"""

import logging
import threading
from collections.abc import Callable

import psycopg2
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import connection as Connection
from serving import metrics
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

log = logging.getLogger("audit")

# Postgres will never take this line; every other failure is tried again.
INVALID_LINE = (psycopg2.DataError, psycopg2.IntegrityError)

TABLES = """
select pg_advisory_xact_lock(hashtext('predictions'));
create table if not exists predictions (
    prediction_id uuid primary key,
    transaction_id text not null,
    user_id text not null,
    merchant_id text not null,
    amount double precision not null,
    is_international boolean not null,
    event_time timestamptz not null,
    fraud_probability double precision not null,
    risk_tier text not null,
    model_version text not null,
    feature_source text not null,
    feature_age_seconds double precision,
    features jsonb not null,
    latency_ms double precision not null,
    predicted_at timestamptz not null
);
-- With the time, or Postgres may search for a payment's first prediction in the index of times, from the beginning.
create index if not exists predictions_of_transaction on predictions (transaction_id, predicted_at);
drop index if exists predictions_transaction_id; -- that of earlier releases
create index if not exists predictions_predicted_at on predictions (predicted_at);
-- How many payments of a day got which tier: counted as they are stored, since the table grows too large to count.
create table if not exists prediction_days (
    event_day date not null,
    model_version text not null,
    risk_tier text not null,
    payments bigint not null,
    primary key (event_day, model_version, risk_tier)
);
"""
# Postgres parses the lines, not this process, which has requests to answer meanwhile. Days are counted in a fixed
# order, so that two workers can't deadlock.
INSERT = """
with stored as (
    insert into predictions
    select * from jsonb_populate_recordset(null::predictions, %s::jsonb)
    on conflict (prediction_id) do nothing
    returning (event_time at time zone 'UTC')::date as event_day, model_version, risk_tier
), counted as (
    insert into prediction_days
    select event_day, model_version, risk_tier, count(*) from stored group by 1, 2, 3 order by 1, 2, 3
    on conflict (event_day, model_version, risk_tier)
    do update set payments = prediction_days.payments + excluded.payments
)
select count(*) from stored
"""


class Sink:
    """Stores lines, and waits for Postgres as long as it takes."""

    def __init__(self, settings: PostgresSettings, stop: threading.Event, on_retry: Callable[[], None]) -> None:
        """Nothing is sent yet.

        Args:
            stop: once it is set, a failure is not tried again.
            on_retry: called after each failure that is tried again.
        """
        self._settings = settings
        self._stop = stop
        self._on_retry = on_retry
        self._connection: Connection | None = None
        self.trouble: str | None = None

    def store(self, lines: list[bytes]) -> None:
        """Insert lines of JSON; returns when Postgres has them.

        Raises:
            psycopg2.Error: Postgres does not take them, and the process stops.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(psycopg2.Error),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._warn_once,
            reraise=True,
        )
        attempts(self._insert, lines)
        if self.trouble:
            log.info("postgres takes predictions again")
            self.trouble = None

    def _insert(self, lines: list[bytes]) -> None:
        try:
            metrics.STORED.inc(self._insert_together(lines))
        except INVALID_LINE as error:
            if len(lines) > 1:
                # One of them is invalid: one by one, all others are stored.
                for line in lines:
                    self._insert([line])
                return
            metrics.ERRORS.labels("prediction_log").inc()
            log.error("left out a line that is not a prediction: %s", error, extra={"line": lines[0]})

    def _insert_together(self, lines: list[bytes]) -> int:
        try:
            connection = self._connected()
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT, (f"[{b','.join(lines).decode(errors='replace')}]",))
                ((stored,),) = cursor.fetchall()
                return stored
        except INVALID_LINE:
            raise
        except psycopg2.Error:
            if self._connection:
                self._connection.close()
            self._connection = None
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = connect(self._settings, "fraud-api")
            create_tables(connection)
            self._connection = connection
        return self._connection

    def _warn_once(self, attempt: RetryCallState) -> None:
        metrics.ERRORS.labels("postgres").inc()
        self._on_retry()
        error = attempt.outcome.exception() if attempt.outcome else None
        if self.trouble is None:
            log.warning("postgres does not take predictions, they wait in files: %s", error)
        self.trouble = f"postgres does not take predictions: {str(error).strip()}"


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing."""
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)

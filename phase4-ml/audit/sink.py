"""The table `predictions` in Postgres, its counts by the minute, and the explainer's work.

Migrations create these tables (fraud_db/).

Storing a line twice changes nothing, so what a crash interrupts is repeated. Downstream, model_quality/ and shadow/
read the rows in the order of their positions (positions.py).
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2
from fraud_common.days import create_days
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.errors import CheckViolation, ProgramLimitExceeded, StatementTooComplex
from psycopg2.extensions import connection as Connection
from serving import metrics
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from audit.positions import STORING

log = logging.getLogger("audit")

# Postgres will never take this line; every other failure is tried again. The last two: a text that is too long for an
# index, and JSON that is nested too deeply.
INVALID_LINE = (psycopg2.DataError, psycopg2.IntegrityError, ProgramLimitExceeded, StatementTooComplex)

PARTITIONED = ("predictions", "prediction_reasons")
# Those of the lines; the position is the table's own.
COLUMNS = (
    "prediction_id, transaction_id, user_id, merchant_id, amount, is_international, event_time, fraud_probability, "
    "risk_tier, model_version, feature_source, feature_age_seconds, features, latency_ms, predicted_at, "
    "decision, queue, ruleset_id, rule_results, held_out, "
    "currency, country, device_id, device_type, merchant_category, unknown_features"
)
# The key of prediction_minutes, and how long its rows are kept: charts show an hour.
MINUTE = "minute, risk_tier, feature_source, model_version, is_international, score_band"
MINUTES_KEPT = "2 days"
EXPIRE = f"delete from prediction_minutes where minute < now() - interval '{MINUTES_KEPT}'"
SECONDS_BETWEEN_EXPIRIES = 600.0
# Postgres parses the lines, not this process, which has requests to answer meanwhile.
INSERT = f"""
{STORING};
with stored as (
    insert into predictions ({COLUMNS})
    select {COLUMNS} from jsonb_populate_recordset(null::predictions, %s::jsonb)
    on conflict (prediction_id, predicted_at) do nothing
    returning *
), waits as (
    insert into prediction_reasons (prediction_id, predicted_at)
    select prediction_id, predicted_at from stored where risk_tier <> 'low'
), counted as (
    insert into prediction_minutes as known ({MINUTE}, payments, amount, fraud_probability, latency_ms)
    select
        date_trunc('minute', predicted_at, 'UTC'), risk_tier, feature_source, model_version, is_international,
        least(floor(fraud_probability * 20) / 20, 0.95),
        count(*), sum(amount), sum(fraud_probability), sum(latency_ms)
    from stored
    where predicted_at > now() - interval '{MINUTES_KEPT}'
    group by 1, 2, 3, 4, 5, 6
    -- All workers in the same order, or two could wait for each other.
    order by 1, 2, 3, 4, 5, 6
    on conflict ({MINUTE}) do update set
        payments = known.payments + excluded.payments,
        amount = known.amount + excluded.amount,
        fraud_probability = known.fraud_probability + excluded.fraud_probability,
        latency_ms = known.latency_ms + excluded.latency_ms
)
select count(*) from stored
"""


# A wrong clock may say any day; what is no day of the calendar is left out with its line.
DAYS = """
select distinct (predicted_at at time zone 'UTC')::date
from jsonb_to_recordset(%s::jsonb) as line (predicted_at timestamptz)
where predicted_at >= '0001-01-02' and predicted_at < '9999-12-31'
"""


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that Postgres does not take, and why."""

    line: bytes
    problem: str


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
        self._expired_at = -SECONDS_BETWEEN_EXPIRIES
        self.trouble: str | None = None

    def store(self, lines: list[bytes]) -> list[RefusedLine]:
        """Insert lines of JSON; returns when Postgres has them, with those that it refuses.

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
        refused = attempts(self._insert, lines)
        if self.trouble:
            log.info("postgres takes predictions again")
            self.trouble = None
        return refused

    def _insert(self, lines: list[bytes]) -> list[RefusedLine]:
        try:
            metrics.STORED.inc(self._insert_with_days(lines))
        except INVALID_LINE as error:
            if len(lines) == 1:
                return [RefusedLine(lines[0], str(error).strip())]
            # One of them is invalid: halved until it is alone, all others are stored.
            half = len(lines) // 2
            return self._insert(lines[:half]) + self._insert(lines[half:])
        return []

    def _insert_with_days(self, lines: list[bytes]) -> int:
        try:
            return self._insert_together(lines, create=False)
        except CheckViolation:
            # The first lines of a day: there is no partition for them.
            return self._insert_together(lines, create=True)

    def _insert_together(self, lines: list[bytes], create: bool) -> int:
        array = f"[{b','.join(lines).decode()}]"
        try:
            connection = self._connected()
            self._expire(connection)
            with connection, connection.cursor() as cursor:
                if create:
                    cursor.execute(DAYS, (array,))
                    create_days(cursor, [day for (day,) in cursor.fetchall()], PARTITIONED)
                cursor.execute(INSERT, (array,))
                ((stored,),) = cursor.fetchall()
                return stored
        except INVALID_LINE:
            raise
        except psycopg2.Error:
            if self._connection:
                self._connection.close()
            self._connection = None
            raise

    def _expire(self, connection: Connection) -> None:
        """Delete old minutes, in a transaction of its own: it waits for no other worker."""
        if time.monotonic() - self._expired_at >= SECONDS_BETWEEN_EXPIRIES:
            with connection, connection.cursor() as cursor:
                cursor.execute(EXPIRE)
            self._expired_at = time.monotonic()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = connect(self._settings, "fraud-api")
        return self._connection

    def _warn_once(self, attempt: RetryCallState) -> None:
        metrics.ERRORS.labels("postgres").inc()
        self._on_retry()
        error = attempt.outcome.exception() if attempt.outcome else None
        if self.trouble is None:
            log.warning("postgres does not take predictions, they wait in files: %s", error)
        self.trouble = f"postgres does not take predictions: {str(error).strip()}"

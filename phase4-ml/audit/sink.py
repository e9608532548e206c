"""The table `predictions` in Postgres, and the explainer's work. Migrations create both (fraud_db/).

Storing a line twice changes nothing, so what a crash interrupts is repeated. Downstream, model_quality/ and shadow/
read the rows in the order of their positions (positions.py).
"""

import logging
import threading
from collections.abc import Callable

import psycopg2
from fraud_common.days import create_days
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.errors import CheckViolation
from psycopg2.extensions import connection as Connection
from serving import metrics
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from audit.positions import STORING

log = logging.getLogger("audit")

# Postgres will never take this line; every other failure is tried again.
INVALID_LINE = (psycopg2.DataError, psycopg2.IntegrityError)

PARTITIONED = ("predictions", "prediction_reasons")
# Those of the lines; the position is the table's own.
COLUMNS = (
    "prediction_id, transaction_id, user_id, merchant_id, amount, is_international, event_time, fraud_probability, "
    "risk_tier, model_version, feature_source, feature_age_seconds, features, latency_ms, predicted_at"
)
# Postgres parses the lines, not this process, which has requests to answer meanwhile.
INSERT = f"""
{STORING};
with stored as (
    insert into predictions ({COLUMNS})
    select {COLUMNS} from jsonb_populate_recordset(null::predictions, %s::jsonb)
    on conflict (prediction_id, predicted_at) do nothing
    returning prediction_id, predicted_at, risk_tier
), waits as (
    insert into prediction_reasons (prediction_id, predicted_at)
    select prediction_id, predicted_at from stored where risk_tier <> 'low'
)
select count(*) from stored
"""


# A wrong clock may say any day; what is no day of the calendar is left out with its line.
DAYS = """
select distinct (predicted_at at time zone 'UTC')::date
from jsonb_to_recordset(%s::jsonb) as line (predicted_at timestamptz)
where predicted_at >= '0001-01-02' and predicted_at < '9999-12-31'
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
            metrics.STORED.inc(self._insert_with_days(lines))
        except INVALID_LINE as error:
            if len(lines) > 1:
                # One of them is invalid: one by one, all others are stored.
                for line in lines:
                    self._insert([line])
                return
            metrics.ERRORS.labels("prediction_log").inc()
            log.error("left out a line that is not a prediction: %s", error, extra={"line": lines[0]})

    def _insert_with_days(self, lines: list[bytes]) -> int:
        try:
            return self._insert_together(lines, create=False)
        except CheckViolation:
            # The first lines of a day: there is no partition for them.
            return self._insert_together(lines, create=True)

    def _insert_together(self, lines: list[bytes], create: bool) -> int:
        array = f"[{b','.join(lines).decode(errors='replace')}]"
        try:
            connection = self._connected()
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

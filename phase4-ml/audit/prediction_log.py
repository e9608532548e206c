"""Every answered prediction on its way to Postgres: in a file before the answer leaves, stored in batches later.

Each worker appends to a file of its own under <state>/predictions, and holds its lock; a thread of the worker moves
what is in it to the table `predictions`. A line stays until Postgres has it, so a worker that is killed loses none:
whoever gets the lock of its file stores the rest. A line may be stored twice over that; the second time changes
nothing.
What the file does not survive is the machine going down before the kernel has written it out.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from serving import metrics
from serving.settings import Settings

logger = logging.getLogger(__name__)

# A larger file is closed, and deleted once it is stored; the worker goes on in a new one. It also bounds what a crash
# makes to be stored twice.
MAX_FILE_BYTES = 4 << 20
CHUNK_BYTES = 128 << 10
STORE_SECONDS = 0.25
ADOPT_SECONDS = 5.0
# How long a stop waits for Postgres to take the rest; what it does not take stays on the volume.
CLOSE_SECONDS = 5.0

# What Postgres says of a line that it will never take; every other failure is tried again.
NO_PREDICTION = (psycopg2.DataError, psycopg2.IntegrityError)

TABLE = """
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
create index if not exists predictions_transaction_id on predictions (transaction_id);
create index if not exists predictions_predicted_at on predictions (predicted_at);
-- How many payments of a day got which tier: counted once, since the table itself soon is too large to be counted.
create table if not exists prediction_days (
    event_day date not null,
    model_version text not null,
    risk_tier text not null,
    payments bigint not null,
    primary key (event_day, model_version, risk_tier)
);
"""
# Postgres takes the lines apart: they go through this process as they are, which has requests to answer meanwhile.
# Days are counted in one order, so that two workers wait for each other at most, and never for ever.
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


@dataclass(slots=True)
class _File:
    """One file, whose lock this process holds."""

    path: Path
    descriptor: int
    size: int = 0
    stored: int = 0


class PredictionLog:
    """Appended to by the event loop, stored by a thread."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.state_dir / "predictions"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._active = self._new_file()
        self._closed: deque[_File] = deque()
        self._torn = False
        # Each counter has one writer: the event loop, and the thread.
        self._appended = self._adopted = self._done = 0
        self._connection: Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def append(self, lines: bytes, count: int) -> None:
        """Keep predictions: lines of JSON, each with its newline, in one write."""
        try:
            # After a write that was cut off (the disk was full), what comes next begins on a line of its own.
            whole = b"\n" + lines if self._torn else lines
            written = os.write(self._active.descriptor, whole)
            self._torn = written < len(whole)
            if self._torn:
                raise OSError(f"{written} of {len(whole)} bytes were written")
        except OSError as error:
            # The payment must be answered all the same.
            metrics.ERRORS.labels("prediction_log").inc(count)
            logger.error("%s: %d predictions are not recorded: %s", self._active.path, count, error)
            return
        self._appended += count
        self._active.size += written
        if self._active.size >= MAX_FILE_BYTES:
            self._rotate()

    def close(self) -> None:
        """Store what Postgres takes within CLOSE_SECONDS; the rest waits on the volume for the next start."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    # ---------- the event loop's side

    def _new_file(self) -> _File:
        # Locked before it has its name, so that no other worker takes it for one of the dead.
        path = self._folder / f"{uuid.uuid4()}.jsonl"
        hidden = path.with_suffix(".new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(path)
        return _File(path, descriptor)

    def _rotate(self) -> None:
        try:
            successor = self._new_file()
        except OSError as error:
            logger.error("%s: no new file for predictions, this one grows: %s", self._folder, error)
            return
        self._closed.append(self._active)
        self._active = successor

    # ---------- the thread's side

    def _run(self) -> None:
        adopted_at = -ADOPT_SECONDS
        while True:
            stopping = self._stop.wait(STORE_SECONDS)
            try:
                if stopping or time.monotonic() - adopted_at >= ADOPT_SECONDS:
                    self._adopt()
                    adopted_at = time.monotonic()
                self._store_all()
            except psycopg2.Error:
                # Only at the end: before that it is tried for ever.
                logger.warning("postgres did not take the last predictions; they wait in %s", self._folder)
            except Exception:
                metrics.ERRORS.labels("prediction_log").inc()
                logger.exception("predictions are not stored; tried again")
            metrics.BACKLOG.set(self._appended + self._adopted - self._done)
            if stopping:
                if self._active.stored == self._active.size and not self._closed:
                    self._active.path.unlink(missing_ok=True)
                return

    def _adopt(self) -> None:
        """Take over the files of workers that are gone."""
        mine = {file.path for file in self._closed} | {self._active.path}
        for path in self._folder.glob("*.jsonl"):
            if path in mine:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            if os.fstat(descriptor).st_nlink == 0:
                # Stored and deleted by another worker in between.
                os.close(descriptor)
                continue
            waiting = path.read_bytes().count(b"\n")
            self._adopted += waiting
            self._closed.append(_File(path, descriptor))
            if waiting:
                logger.info("%s of a worker that is gone is stored", path.name, extra={"fields": {"lines": waiting}})

    def _store_all(self) -> None:
        while self._closed:
            file = self._closed[0]
            self._store_file(file)
            file.path.unlink()
            os.close(file.descriptor)
            self._closed.popleft()
        self._store_file(self._active)

    def _store_file(self, file: _File) -> None:
        """All complete lines that are there now. A torn last line of a killed worker was never answered."""
        while chunk := os.pread(file.descriptor, CHUNK_BYTES, file.stored):
            end = chunk.rfind(b"\n") + 1
            if not end:
                return
            lines = [line for line in chunk[:end].split(b"\n") if line]
            if lines:
                self._store(lines)
                self._done += len(lines)
            file.stored += end
            metrics.BACKLOG.set(self._appended + self._adopted - self._done)

    def _store(self, lines: list[bytes]) -> None:
        """Until Postgres has them, or the process stops."""
        attempts = Retrying(
            retry=retry_if_exception_type(psycopg2.Error),
            wait=wait_exponential_jitter(multiplier=0.2, max=5),
            stop=stop_when_event_set(self._stop),
            sleep=sleep_using_event(self._stop),
            before_sleep=self._complain,
            reraise=True,
        )
        attempts(self._insert, lines)
        if self.trouble:
            logger.info("postgres takes predictions again")
            self.trouble = None

    def _insert(self, lines: list[bytes]) -> None:
        try:
            stored = self._insert_together(lines)
        except NO_PREDICTION as error:
            if len(lines) > 1:
                # One of them is no prediction: all that are go in.
                for line in lines:
                    self._insert([line])
                return
            metrics.ERRORS.labels("prediction_log").inc()
            logger.error("a line is no prediction and is left out: %s", error, extra={"fields": {"line": lines[0]}})
            return
        metrics.STORED.inc(stored)

    def _insert_together(self, lines: list[bytes]) -> int:
        try:
            connection = self._connected()
            with connection, connection.cursor() as cursor:
                cursor.execute(INSERT, (f"[{b','.join(lines).decode(errors='replace')}]",))
                ((stored,),) = cursor.fetchall()
                return stored
        except NO_PREDICTION:
            raise
        except psycopg2.Error:
            if self._connection:
                self._connection.close()
            self._connection = None
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = psycopg2.connect(
                host=self._settings.postgres_host,
                port=self._settings.postgres_port,
                dbname="fraud",
                user="fraud",
                password=self._settings.fraud_db_password,
                connect_timeout=5,
                # A server whose machine is gone is noticed after ten seconds.
                tcp_user_timeout=10_000,
                application_name="fraud-api",
            )
            with connection, connection.cursor() as cursor:
                cursor.execute(TABLE)
            self._connection = connection
        return self._connection

    def _complain(self, attempt: RetryCallState) -> None:
        metrics.ERRORS.labels("postgres").inc()
        metrics.BACKLOG.set(self._appended + self._adopted - self._done)
        error = attempt.outcome.exception() if attempt.outcome else None
        if self.trouble is None:
            logger.warning("postgres does not take predictions, they wait in %s: %s", self._folder, error)
        self.trouble = f"postgres does not take predictions: {str(error).strip()}"

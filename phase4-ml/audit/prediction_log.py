"""Every answered prediction on its way to Postgres: in a file before the answer leaves, in the table soon after.

Upstream is the predictor, downstream the table `predictions`. The event loop appends to the spool; a thread moves what
is in it to Postgres. With AUDIT_FSYNC=on an answer also waits until its file is on the disk; one sync is for all
answers that wait for it.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable

import psycopg2
from serving import metrics
from serving.settings import Settings

from audit.sink import Sink
from audit.spool import File, NotRecordedError, Spool

log = logging.getLogger("audit")

STORE_SECONDS = 0.25
ADOPT_SECONDS = 5.0
# How long a stop waits for Postgres to take the rest; what it does not take stays on the volume.
CLOSE_SECONDS = 5.0


class PredictionLog:
    """The event loop calls `record`; everything else is done by threads."""

    def __init__(self, settings: Settings) -> None:
        self._spool = Spool(settings.state_dir / "predictions", settings.audit_max_mb << 20)
        self._fsync = settings.audit_fsync
        self._stop = threading.Event()
        self._sink = Sink(settings, self._stop, on_retry=self._report)
        self._not_recorded: str | None = None
        # What the next sync is for, and that sync.
        self._unsynced: set[File] = set()
        self._next_sync: asyncio.Task[None] | None = None
        self._one_sync = asyncio.Lock()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why predictions wait in files, or are not recorded at all; None while all is well."""
        return self._not_recorded or self._sink.trouble

    def start(self) -> None:
        """Begin to store."""
        self._report()
        self._thread.start()

    async def record(self, lines: bytes) -> None:
        """Keep predictions: lines of JSON, each with its newline. Without AUDIT_FSYNC, as `append`.

        Raises:
            NotRecordedError: AUDIT_FSYNC=on, and they may not be on the disk, so they must not be answered.
        """
        if not self._fsync:
            self.append(lines)
            return
        try:
            self._unsynced.add(self._spool.append(lines))
            if self._next_sync is None:
                self._next_sync = asyncio.create_task(self._sync())
            await asyncio.shield(self._next_sync)
        except NotRecordedError as error:
            self._warn_once(error, "are refused")
            raise
        except OSError as error:
            not_synced = NotRecordedError(lines.count(b"\n"), f"the disk did not take them: {error}")
            self._warn_once(not_synced, "are refused")
            raise not_synced from error
        self._recorded_again()

    def append(self, lines: bytes) -> None:
        """Keep predictions as far as possible. Their payments are answered all the same; what is lost is counted."""
        try:
            self._spool.append(lines)
        except NotRecordedError as error:
            metrics.UNRECORDED.inc(error.lost)
            self._warn_once(error, "are answered without a record")
        else:
            self._recorded_again()

    def close(self) -> None:
        """Store what Postgres takes within CLOSE_SECONDS; the rest waits on the volume for the next start."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    async def _sync(self) -> None:
        # A sync that has already begun may lack the newest lines.
        async with self._one_sync:
            self._next_sync = None
            files, self._unsynced = self._unsynced, set()
            started = time.perf_counter()
            try:
                await asyncio.to_thread(_sync_all, files)
            except OSError:
                self._spool.abandon()
                raise
            metrics.AUDIT_SYNC.observe(time.perf_counter() - started)

    def _warn_once(self, error: NotRecordedError, consequence: str) -> None:
        metrics.ERRORS.labels("prediction_log").inc(error.lost)
        if self._not_recorded is None:
            log.error("%s: predictions %s: %s", self._spool.folder, consequence, error)
        self._not_recorded = f"predictions {consequence}: {error}"

    def _recorded_again(self) -> None:
        if self._not_recorded:
            log.info("%s: predictions are recorded again", self._spool.folder)
            self._not_recorded = None

    def _run(self) -> None:
        adopted_at = -ADOPT_SECONDS
        while True:
            stopping = self._stop.wait(STORE_SECONDS)
            try:
                if stopping or time.monotonic() - adopted_at >= ADOPT_SECONDS:
                    self._spool.adopt()
                    adopted_at = time.monotonic()
                self._store_all()
                self._report()
            except psycopg2.Error:
                # Only at the end: before that, the sink repeats it without limit.
                log.warning("postgres did not take the last predictions; they wait in %s", self._spool.folder)
            except Exception:
                metrics.BACKGROUND_FAILURES["prediction_log"].inc()
                log.exception("predictions are not stored; trying again")
            if stopping:
                self._spool.close()
                return

    def _store_all(self) -> None:
        for lines in self._spool.unstored():
            for refused in self._sink.store(lines):
                self._spool.refuse(refused.line, refused.problem)
            self._report()

    def _report(self) -> None:
        metrics.BACKLOG.set(self._spool.waiting)
        used = self._spool.used()
        disk = os.statvfs(self._spool.folder)
        metrics.AUDIT_BYTES.set(used)
        metrics.QUARANTINE_BYTES.set(self._spool.quarantined)
        metrics.AUDIT_ROOM.set(max(0, min(self._spool.max_bytes - used, disk.f_bavail * disk.f_frsize)))


def _sync_all(files: Iterable[File]) -> None:
    for file in files:
        file.sync()

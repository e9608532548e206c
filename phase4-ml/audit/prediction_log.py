"""Every answered prediction on its way to Postgres: in a file before the answer leaves, in the table soon after.

Upstream is the predictor, downstream the table `predictions`. The event loop appends to the spool; a thread moves what
is in it to Postgres.
"""

import logging
import threading
import time

import psycopg2
from serving import metrics
from serving.settings import Settings

from audit.sink import Sink
from audit.spool import Spool

log = logging.getLogger("audit")

STORE_SECONDS = 0.25
ADOPT_SECONDS = 5.0
# How long a stop waits for Postgres to take the rest; what it does not take stays on the volume.
CLOSE_SECONDS = 5.0


class PredictionLog:
    """The event loop calls `append`; everything else is done by a thread."""

    def __init__(self, settings: Settings) -> None:
        self._spool = Spool(settings.state_dir / "predictions")
        self._stop = threading.Event()
        self._sink = Sink(settings, self._stop, on_retry=self._report_backlog)
        # Each counter has one writer: the event loop the first, the thread the others.
        self._appended = self._adopted = self._done = 0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why predictions wait in files; None while they do not."""
        return self._sink.trouble

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def append(self, lines: bytes, count: int) -> None:
        """Keep so many predictions: lines of JSON, each with its newline."""
        try:
            self._spool.append(lines)
        except OSError as error:
            # The payment must be answered all the same.
            metrics.ERRORS.labels("prediction_log").inc(count)
            log.error("%s: %d predictions are not recorded: %s", self._spool.folder, count, error)
            return
        self._appended += count

    def close(self) -> None:
        """Store what Postgres takes within CLOSE_SECONDS; the rest waits on the volume for the next start."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        adopted_at = -ADOPT_SECONDS
        while True:
            stopping = self._stop.wait(STORE_SECONDS)
            try:
                if stopping or time.monotonic() - adopted_at >= ADOPT_SECONDS:
                    self._adopted += self._spool.adopt()
                    adopted_at = time.monotonic()
                self._store_all()
            except psycopg2.Error:
                # Only at the end: before that, the sink repeats it without limit.
                log.warning("postgres did not take the last predictions; they wait in %s", self._spool.folder)
            except Exception:
                metrics.ERRORS.labels("prediction_log").inc()
                log.exception("predictions are not stored; trying again")
            self._report_backlog()
            if stopping:
                self._spool.close()
                return

    def _store_all(self) -> None:
        for lines in self._spool.unstored():
            self._sink.store(lines)
            self._done += len(lines)
            self._report_backlog()

    def _report_backlog(self) -> None:
        metrics.BACKLOG.set(self._appended + self._adopted - self._done)

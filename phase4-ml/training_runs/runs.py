"""One run at a time, as a child process whose output and end are kept for those who ask.

Upstream is server.py; the child is `python -m training.train`, or another program of PROGRAMS.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from fraud_common.errors import EXIT_SKIPPED
from fraud_common.memory import read_memory

# What can be started, by the name that a request has.
PROGRAMS = {"train": "training.train", "score": "training.score_examples"}
# A run writes some dozens.
LINES_KEPT = 10_000
CHARACTERS_KEPT = 2_000
# From SIGTERM to SIGKILL.
GRACE_SECONDS = 5

log = logging.getLogger("training")


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `reason` is empty if the program itself has said why."""

    exit_code: int
    reason: str
    seconds: float
    peak_mib: int


@dataclass
class Run:
    """A run under way, or the last one. `written` counts all lines, of which `lines` has the newest."""

    id: str
    program: str
    process: subprocess.Popen[str]
    kills_before: int
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    written: int = 0
    outcome: Outcome | None = None
    # The caller knows how the run ended, or wants it no more.
    released: bool = False

    def has_result(self) -> bool:
        """Whether it ended as it should, and its caller does not know yet."""
        return self.outcome is not None and self.outcome.exit_code in (0, EXIT_SKIPPED) and not self.released


class Runs:
    """The run under way or the last one, and the one before it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._run: Run | None = None
        # Training that waits for scoring begins at once, before the caller of the scoring has read its end.
        self._before: Run | None = None
        self._closed = False

    def start(self, run_id: str, program: str, arguments: list[str], settings: dict[str, str]) -> tuple[Run, bool]:
        """Start a run of a program, and say whether that was necessary; `settings` win over those of the container.

        It is not while one is under way, of any caller and any program. Nor is it if this very run has
        ended well, and its caller was gone by then: it has been restarted, and asks again.
        """
        with self._changed:
            run = self._run
            if run and not run.outcome:
                return run, False
            known = self._find(run_id)
            if known and known.has_result():
                return known, False
            if self._closed:
                raise RuntimeError("the server is stopping")
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAMS[program], *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=os.environ | settings | {"PYTHONUNBUFFERED": "1"},
                # A group of its own, so that a signal reaches its children, too.
                start_new_session=True,
            )
            self._before = self._run
            run = self._run = Run(run_id, program, process, read_memory().kills)
        log.info("started", extra={"run": run_id})
        threading.Thread(target=self._follow, args=(run,), daemon=True).start()
        return run, True

    def read(self, run_id: str, first: int, seconds: float) -> dict[str, Any] | None:
        """The lines of a run from number `first` on, as soon as there are any or it has ended, at most `seconds` later.

        None if this is not the run under way, the last one or the one before it.
        """
        with self._changed:
            run = self._find(run_id)
            if not run:
                return None
            self._changed.wait_for(lambda: run.written > first or run.outcome, seconds)
            lost = run.written - len(run.lines)
            return {
                "lines": list(run.lines)[max(first - lost, 0) :],
                "next": run.written,
                "outcome": asdict(run.outcome) if run.outcome else None,
            }

    def release(self, run_id: str) -> bool:
        """The caller of this run knows its outcome, or wants it no more: then it is stopped.

        False if there is no such run.
        """
        with self._changed:
            run = self._find(run_id)
            if not run:
                return False
            run.released = True
            if not run.outcome:
                _signal(run, signal.SIGTERM)
                threading.Thread(target=self._kill_later, args=(run,), daemon=True).start()
            return True

    def _find(self, run_id: str) -> Run | None:
        return next((run for run in (self._run, self._before) if run and run.id == run_id), None)

    def under_way(self) -> str | None:
        """The id of the run under way."""
        with self._changed:
            return self._run.id if self._run and not self._run.outcome else None

    def close(self) -> None:
        """Stop the run under way, and start none from now on."""
        with self._changed:
            self._closed = True
            run = self._run
        if run and self.release(run.id):
            with self._changed:
                self._changed.wait_for(lambda: run.outcome, 2 * GRACE_SECONDS)

    def _kill_later(self, run: Run) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: run.outcome, GRACE_SECONDS):
                _signal(run, signal.SIGKILL)

    def _follow(self, run: Run) -> None:
        """Keep the run's lines, and in the end its outcome."""
        assert run.process.stdout
        for line in run.process.stdout:
            text = line.rstrip()[:CHARACTERS_KEPT]
            log.info(text, extra={"run": run.id})
            with self._changed:
                run.lines.append(text)
                run.written += 1
                self._changed.notify_all()
        # Not Popen.wait: only wait4 knows the peak of this child's memory.
        _, status, usage = os.wait4(run.process.pid, 0)
        with self._changed:
            run.process.returncode = os.waitstatus_to_exitcode(status)
            run.outcome = _outcome(run, peak_mib=usage.ru_maxrss // 1024)
            self._changed.notify_all()
        log.info("ended", extra={"run": run.id} | asdict(run.outcome))


def _signal(run: Run, number: signal.Signals) -> None:
    # Its group may be gone already; the process itself is waited for by _follow alone.
    with suppress(ProcessLookupError):
        os.killpg(run.process.pid, number)


def _outcome(run: Run, peak_mib: int) -> Outcome:
    exit_code, memory = run.process.returncode, read_memory()
    reason = ""
    if exit_code and memory.kills > run.kills_before:
        reason = (
            f"killed: memory limit of {memory.limit_mib:,} MiB reached; raise mem_limit of training in"
            " docker-compose.yml, or lower TRAINING_DAYS in .env, then: docker compose up -d training"
        )
    elif run.released and exit_code:
        reason = "stopped on request"
    elif exit_code < 0:
        reason = f"killed by {signal.Signals(-exit_code).name}; see: docker compose logs training"
    return Outcome(exit_code, reason, round(time.monotonic() - run.started, 1), peak_mib)

"""The pace of the live stream: a constant rate, or real time; never ahead of the real clock."""

import logging
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from producer import metrics

log = logging.getLogger("pacing")

# After an outage, overdue messages are sent as fast as Kafka accepts them. After hours of sleep (a closed laptop) that
# would be a flood, so the schedule restarts instead.
LONGEST_CATCH_UP_SECONDS = 600.0
SHORTEST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.1


class Pacer:
    """Says how many messages are due. The schedule is fixed at the start, so that errors in waiting don't add up."""

    def __init__(
        self,
        rate: float | Literal["natural"],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._wall_clock = wall_clock
        self._origin = 0.0
        self._sent = 0
        self.started = False

    def start(self) -> None:
        """The schedule begins now."""
        self._origin, self._sent, self.started = self._clock(), 0, True
        metrics.TARGET_RATE.set(0 if self._rate == "natural" else self._rate)

    def due(self, arrival_ms: np.ndarray, sent: int, limit: int, wait: Callable[[float], None]) -> int:
        """How many of the next messages are due now, at most `limit`; if none is, wait a little and return 0.

        Args:
            arrival_ms: when each message of the day arrives by the simulated clock, ascending.
            sent: how many of them were sent already.
            wait: waits the given seconds; the caller's client works meanwhile.
        """
        happened = int(np.searchsorted(arrival_ms[sent : sent + limit], self._wall_clock() * 1000, side="right"))
        if self._rate == "natural":
            return happened or self._wait(wait, LONGEST_WAIT_SECONDS)
        if happened == 0:
            log.info("the simulated clock has reached now; continuing in real time at the natural rate")
            self._rate = "natural"
            metrics.TARGET_RATE.set(0)
            metrics.RATE_LAG.set(0)
            return 0
        return self._due_at_rate(self._rate, min(happened, limit), wait)

    def _due_at_rate(self, rate: float, limit: int, wait: Callable[[float], None]) -> int:
        elapsed = self._clock() - self._origin
        overdue = int(elapsed * rate) - self._sent
        if overdue > rate * LONGEST_CATCH_UP_SECONDS:
            log.warning("too far behind to catch up; restarting the schedule", extra={"skipped": overdue})
            self.start()
            return 0
        metrics.RATE_LAG.set(max(0, overdue))
        if overdue <= 0:
            next_in = (self._sent + 1) / rate - elapsed
            return self._wait(wait, min(max(next_in, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS))
        due = min(overdue, limit)
        self._sent += due
        return due

    @staticmethod
    def _wait(wait: Callable[[float], None], seconds: float) -> int:
        wait(seconds)
        return 0

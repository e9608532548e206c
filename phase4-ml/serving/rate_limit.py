"""How many payments a second each API key may have scored.

All workers of a container share one number per key, in memory: a limit in each worker would depend on how connections
are spread over them, and one in Redis would cost every request a round trip and need a fallback. Two workers may change
a number in the same microsecond, and then one request is not counted; for a limit that is exact enough.
"""

import math
import mmap
import time
from collections.abc import Callable
from pathlib import Path

type Numbers = list[float] | memoryview[float]

SHARED_FILE = Path("/dev/shm/fraud-api-rate-limit")
# What a key may ask for at once, in seconds of its rate.
BURST_SECONDS = 1.0


def shared_numbers(count: int, file: Path = SHARED_FILE) -> Numbers:
    """So many numbers, 0 at first, that all processes with the same file share."""
    size = 8 * count
    with file.open("a+b") as opened:
        opened.truncate(size)
        return memoryview(mmap.mmap(opened.fileno(), size)).cast("d")


class RateLimit:
    """The generic cell rate algorithm (ITU-T I.371): of each key, when everything that it asked for is paid off."""

    def __init__(self, per_second: float, paid_at: Numbers, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        per_second: payments.
        paid_at: a number for each key.
        clock: seconds, the same for all processes.
        """
        self.per_second = per_second
        self._paid_at = paid_at
        self._clock = clock

    def wait_seconds(self, key: int) -> int:
        """Whole seconds until the key may ask again; 0 if it may now."""
        return max(0, math.ceil(self._paid_at[key] - self._clock() - BURST_SECONDS))

    def charge(self, key: int, payments: int) -> None:
        """Count payments, also more than the key has left: it then waits longer."""
        self._paid_at[key] = max(self._paid_at[key], self._clock()) + payments / self.per_second

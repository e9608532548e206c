"""The pace, on a clock that the test moves."""

import numpy as np
from producer.pacing import LONGEST_CATCH_UP_SECONDS, Pacer

LONG_AGO = np.zeros(1_000_000)


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def send_for(pacer: Pacer, clock: Clock, seconds: float, arrival: np.ndarray = LONG_AGO) -> int:
    end, sent = clock.now + seconds, 0
    while clock.now < end:
        sent += pacer.due(arrival, sent, 500, clock.wait)
    return sent


def test_rates_are_exact() -> None:
    for rate in (0.5, 100.0, 5_000.0):
        clock = Clock()
        pacer = Pacer(rate, clock, clock)
        pacer.start()
        assert abs(send_for(pacer, clock, 60) - rate * 60) <= max(1, rate * 0.01)


def test_after_an_outage_what_is_overdue_is_sent_at_once() -> None:
    clock = Clock()
    pacer = Pacer(100.0, clock, clock)
    pacer.start()
    sent = send_for(pacer, clock, 10)
    clock.now += 60  # the queue was full for a minute
    assert abs(sent + send_for(pacer, clock, 10) - 8_000) <= 2


def test_after_a_long_sleep_the_schedule_restarts() -> None:
    clock = Clock()
    pacer = Pacer(100.0, clock, clock)
    pacer.start()
    clock.now += 10 * LONGEST_CATCH_UP_SECONDS
    assert abs(send_for(pacer, clock, 10) - 1_000) <= 2


def test_it_never_runs_ahead_of_the_real_clock_and_continues_at_the_natural_rate() -> None:
    clock = Clock()
    # One message each second from now on, and ten that have happened already.
    arrival = np.concatenate([np.full(10, clock.now - 1), clock.now + np.arange(1, 1000)]) * 1000
    pacer = Pacer(5_000.0, clock, clock)
    pacer.start()
    sent = 0
    end = clock.now + 60.5
    while clock.now < end:
        sent += pacer.due(arrival, sent, 500, clock.wait)
        assert sent == 0 or arrival[sent - 1] <= clock.now * 1000
    assert abs(sent - 70) <= 1

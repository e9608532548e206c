"""When a stream counts as running: health means able to work, not that something arrived."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fraud_common.topics import LABELS, TRANSACTIONS
from prometheus_client import REGISTRY
from spark_jobs import progress
from spark_jobs.progress import RUNNING, STUCK_SECONDS, ProgressListener

RUN = "run-1"
TOPIC = "t"
started = SimpleNamespace(runId=RUN, name=TOPIC)
idle = terminated = SimpleNamespace(runId=RUN)
batch = SimpleNamespace(
    progress=SimpleNamespace(
        name=TOPIC,
        inputRowsPerSecond=float("nan"),
        processedRowsPerSecond=1.0,
        durationMs={"triggerExecution": 1000},
        sources=[],
    )
)


class Clock:
    """The process's clock, moved by hand."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def listener(clock: Clock) -> Iterator[ProgressListener]:
    listener = ProgressListener("localhost:1")
    listener.onQueryStarted(cast(Any, started))
    yield listener
    RUNNING.clear()


def running() -> float:
    """What the health check reads."""
    (sample,) = [s for metric in RUNNING.collect() for s in metric.samples if s.labels["topic"] == TOPIC]
    return sample.value


def test_a_stream_that_has_not_begun_is_not_running(listener: ProgressListener) -> None:
    assert running() == 0


def test_a_quiet_topic_is_healthy_after_a_restart(listener: ProgressListener, clock: Clock) -> None:
    """A2: nothing was committed since the start, and nothing needs to be."""
    listener.onQueryIdle(cast(Any, idle))
    assert running() == 1
    for _ in range(10):
        clock.now += STUCK_SECONDS / 2
        listener.onQueryIdle(cast(Any, idle))
        assert running() == 1


def test_a_stream_that_hangs_is_not_running(listener: ProgressListener, clock: Clock) -> None:
    """A2."""
    listener.onQueryProgress(cast(Any, batch))
    clock.now += STUCK_SECONDS - 1
    assert running() == 1
    clock.now += 2
    assert running() == 0


def test_a_stream_that_ended_is_not_running(listener: ProgressListener) -> None:
    listener.onQueryProgress(cast(Any, batch))
    listener.onQueryTerminated(cast(Any, terminated))
    assert running() == 0


def test_counters_are_0_before_the_first_dead_letter() -> None:
    """Field case G3: no alert sees the first one of a counter that appears with it."""
    seen = REGISTRY.get_sample_value
    assert seen("bronze_dead_letters_total", {"topic": LABELS}) == 0
    violations = {"topic": TRANSACTIONS, "rule": "amount_not_positive"}
    assert seen("bronze_rule_violations_total", violations) == 0

"""The worker of rules without its database: what is a runaway, and what becomes of a backtest."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fraud_common.errors import UserError
from rules import jobs, worker
from rules.language import parse
from rules.runaway import MINIMUM_HITS, TIMES_EXPECTED, LiveRule
from rules.worker import Settings, run_job, says_what_to_expect

JOB = jobs.Job(7, {"when": "amount > 5"})


@pytest.mark.parametrize(
    ("hits", "expected", "is_runaway"),
    [
        (MINIMUM_HITS - 1, 0.0, False),
        (MINIMUM_HITS, 0.0, True),
        (MINIMUM_HITS, 3.0, True),
        (999, 100.0, False),
        (1000, 100.0, True),
    ],
)
def test_a_runaway_fires_ten_times_as_often_and_often_enough(hits: int, expected: float, is_runaway: bool) -> None:
    assert LiveRule("round-amounts", 2, hits, expected).is_runaway is is_runaway


def test_the_reason_has_the_numbers() -> None:
    reason = LiveRule("round-amounts", 2, 12_345, 3.25).reason
    assert all(part in reason for part in ("12,345 hits", f"{TIMES_EXPECTED} times", "3.2 a day", str(MINIMUM_HITS)))
    assert len(reason) <= 500, "what the column takes"


class Postgres:
    """Notes what is asked instead of asking it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.cancelled = False

    def until_answered(self, ask: Callable[..., Any], *args: Any) -> None:
        if ask is jobs.report_progress and self.cancelled:
            raise jobs.CancelledError
        self.asked.append((ask.__name__, args))


def run(monkeypatch: pytest.MonkeyPatch, backtest: Callable[..., Any], stop: threading.Event | None = None) -> Postgres:
    postgres = Postgres()
    monkeypatch.setattr(worker, "asked", lambda settings, request, on_progress: backtest(request, on_progress))
    run_job(Settings(), postgres, JOB, stop or threading.Event())  # type: ignore[arg-type]
    return postgres


def test_a_report_is_stored_with_the_progress_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def backtest(request: dict[str, Any], on_progress: Callable[[float, str], None]) -> dict[str, Any]:
        on_progress(0.5, "half")
        return {"of": request}

    postgres = run(monkeypatch, backtest)
    assert postgres.asked == [
        ("report_progress", (JOB, 0.5, "half")),
        ("finish", (JOB, {"of": JOB.request})),
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("Trino does not answer"), "Trino does not answer"),
        (
            ZeroDivisionError("division by zero"),
            "ZeroDivisionError: division by zero; docker compose logs rules-worker",
        ),
    ],
)
def test_a_failure_is_stored_with_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def backtest(*_: Any) -> None:
        raise error

    ((name, (job, why)),) = run(monkeypatch, backtest).asked
    assert (name, job) == ("fail", JOB)
    assert why.startswith(message)


def test_a_wrong_condition_fails_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, (_, why)),) = run(monkeypatch, lambda *_: parse("amount >")).asked
    assert name == "fail" and "line 1, column" in why


def test_a_stop_lets_the_job_wait_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def backtest(_: Any, on_progress: Callable[[float, str], None]) -> None:
        stop.set()
        on_progress(0.2, "the second part")

    assert run(monkeypatch, backtest, stop).asked == [("put_back", (JOB,))]


def test_a_cancelled_job_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = Postgres()
    postgres.cancelled = True
    monkeypatch.setattr(worker, "asked", lambda _, __, on_progress: on_progress(0.5, "half"))
    run_job(Settings(), postgres, JOB, threading.Event())  # type: ignore[arg-type]
    assert postgres.asked == []


@pytest.mark.parametrize(
    ("when", "without_score", "from_history", "says"),
    [
        ("amount > 5", 1000, 1000, True),
        ("amount > 5 and fraud_probability > 0.5", 100, 1000, True),
        ("amount > 5 and fraud_probability > 0.5", 101, 1000, False),
        ("risk_tier = 'high'", 1000, 1000, False),
        ("in_list(user_id, 'blocked-users')", 0, 1000, False),
        ("in_list(user_id, 'blocked-users')", 0, 0, True),
    ],
)
def test_a_backtest_that_did_not_see_what_the_rule_reads_expects_nothing(
    when: str, without_score: int, from_history: int, says: bool
) -> None:
    payments = {"total": 1000, "without_score": without_score, "from_history": from_history}
    assert says_what_to_expect({"rule": {"when": when}, "payments": payments}) is says

"""`make rules-backtest`: what is asked for, what a person sees while it waits, and how it ends."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from fraud_common.errors import UserError
from rules.backtest import command
from rules.backtests_table import Backtest
from rules.refusals import ConflictError


class Connection:
    """A connection whose transactions and cursors do nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def cursor(self) -> Any:
        return nullcontext()


def state(name: str, progress: float = 0.0, message: str = "") -> Backtest:
    return Backtest(5, "make", datetime(2026, 11, 27, tzinfo=UTC), {}, name, progress, message, None, None)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the table of backtests answers, one after the other, and what became of it."""
    said: dict[str, Any] = {"answers": [], "asked": None, "cancelled": None}

    def ask(_: Any, request: dict[str, Any], by: str) -> Backtest:
        said["asked"] = (request, by)
        return state("waiting")

    def answer(*_: Any) -> Any:
        found = said["answers"].pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    def cancel(_: Any, backtest_id: int, by: str) -> None:
        said["cancelled"] = (backtest_id, by)

    monkeypatch.setattr(command.backtests_table, "ask", ask)
    monkeypatch.setattr(command.backtests_table, "get_backtest", answer)
    monkeypatch.setattr(command.backtests_table, "cancel", cancel)
    monkeypatch.setattr(command, "POLL_SECONDS", 0)
    yield said


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    return command.request_of(command.parse_arguments())


def test_what_is_not_given_is_not_in_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "--rule", "high", "--days", "7") == {"rule": "high", "days": 7}
    assert asked(monkeypatch, "--when=amount > 5", "--queue", "--from", "2026-01-01", "--compare-to", "high") == {
        "when": "amount > 5", "queue": True, "from": "2026-01-01", "compare_to": "high",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--when", "amount > 500 amount"], "amount"),
        (["--rule", "high", "--from", "today"], "from is 'today'"),
        (["--threshold", "2"], "threshold is 2.0"),
    ],
)
def test_a_mistake_is_known_before_anything_waits(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        asked(monkeypatch, *arguments)


def test_progress_is_shown_once(table: dict[str, Any]) -> None:
    running = state("running", 0.5, "2026-01-01 to 2026-01-10")
    table["answers"] = [(state("waiting"), None), (running, None), (running, None), (state("done"), {"a": 1})]
    lines: list[str] = []
    assert command.ask_and_follow(Connection(), {"rule": "high"}, lines.append) == {"a": 1}
    assert table["asked"] == ({"rule": "high"}, "make")
    assert lines == ["backtest 5 waits", "backtest 5: 50%, 2026-01-01 to 2026-01-10"]


def test_while_nothing_takes_it_the_worker_is_named(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PATIENCE_SECONDS", 0)
    table["answers"] = [(state("waiting"), None), (state("done"), {})]
    lines: list[str] = []
    command.ask_and_follow(Connection(), {}, lines.append)
    assert "docker compose ps rules-worker" in lines[0]


def test_why_it_failed_is_said(table: dict[str, Any]) -> None:
    table["answers"] = [(state("failed", message="Trino does not answer"), None)]
    with pytest.raises(UserError, match="backtest 5 failed: Trino does not answer"):
        command.ask_and_follow(Connection(), {}, lambda _: None)


def test_ctrl_c_cancels_it(table: dict[str, Any]) -> None:
    table["answers"] = [KeyboardInterrupt()]
    with pytest.raises(UserError, match="backtest 5 is cancelled"):
        command.ask_and_follow(Connection(), {}, lambda _: None)
    assert table["cancelled"] == (5, "make")


def test_a_full_queue_is_said(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Backtest:
        raise ConflictError("20 backtests are waiting")

    monkeypatch.setattr(command.backtests_table, "ask", refuse)
    with pytest.raises(UserError, match="20 backtests are waiting"):
        command.ask_and_follow(Connection(), {}, lambda _: None)

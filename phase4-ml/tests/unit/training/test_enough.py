"""Enough payments and frauds for a model, or one line that says what is missing and what to do."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fraud_common.errors import EXIT_SKIPPED
from training import train
from training.enough import (
    MATURITY,
    Counts,
    History,
    TooFewExamples,
    check_enough,
    days_needed,
    holdout_minimum,
    leave_out_late_history,
    leave_out_warm_up,
    nothing_matured,
)
from training.examples import periods, without_warm_up
from training.settings import Settings
from training_world import START

DBT_PROJECT = Path(__file__).parents[4] / "phase3-transforms" / "dbt_project" / "dbt_project.yml"


def even(settings: Settings, payments: int, frauds: int, days: int) -> str | None:
    """The message for so many payments and frauds, evenly over so many days; None if there are enough."""
    history = History(START, START + timedelta(days=days), payments, frauds)
    start = max(history.start, history.end - timedelta(days=settings.training_days))
    rate, other = frauds / days, (payments - frauds) / days
    enough = timedelta(days=holdout_minimum(settings) / rate) if rate else timedelta(days=days)
    split = periods(start, history.end, history.end - min(enough, timedelta(days=days)))

    def number(per_day: float, since: datetime, until: datetime) -> int:
        return int(per_day * ((until - since) / timedelta(days=1)) + 1e-6)

    counts = Counts(
        number(rate, split.start, split.train_end),
        number(other, split.start, split.train_end),
        number(rate, split.holdout_start, split.end),
        number(other, split.holdout_start, split.end),
    )
    try:
        check_enough(settings, counts, split, history)
    except TooFewExamples as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("payments", "frauds", "days"),
    [(1_500_000, 9_000, 166), (60_000, 400, 16), (1_000_000, 80_000, 30), (300_000, 130, 45), (200, 100, 16)],
    ids=["six months", "30 days, of which 16 have matured", "8 % fraud", "few frauds", "a small file"],
)
def test_own_data_that_gives_a_model(payments: int, frauds: int, days: int) -> None:
    """D15: what people come with."""
    assert even(Settings(), payments, frauds, days) is None


@pytest.mark.parametrize(
    ("payments", "frauds", "days", "named"),
    [
        (40_000, 30, 166, "of matured payments, and there are 166"),
        (40_000, 30, 16, "of matured payments, and there are 16"),
        (40_000, 3, 30, "are too few to tell a good model from a bad one"),
        (40_000, 0, 30, "none of the 40,000 matured payments from 2026-01-01 to 2026-01-31 is labelled as fraud"),
        (500, 500, 30, "too few legitimate payments to learn from: 0 from"),
        (1_000_000, 130, 166, "TRAINING_DAYS=166 make ml-train"),
    ],
    ids=["30 frauds", "30 frauds in 30 days", "three frauds", "no labels", "only frauds", "more history than is used"],
)
def test_own_data_that_does_not_gets_one_line(payments: int, frauds: int, days: int, named: str) -> None:
    """D15: it says what is there, what is needed, and the next step."""
    message = even(Settings(), payments, frauds, days)
    assert message is not None and named in message
    assert "\n" not in message and "make ml-train" in message
    assert re.search(r"\b50\b|\b75\b", message)


@pytest.mark.parametrize(("payments", "frauds", "days"), [(1_000_000, 130, 166), (40_000, 60, 166), (40_000, 30, 16)])
def test_the_proposed_command_gives_a_model(payments: int, frauds: int, days: int) -> None:
    """D15: the next step leads further."""
    message = even(Settings(), payments, frauds, days)
    assert message is not None
    commands = re.findall(r"((?:TRAINING_\w+=\d+ )+)make ml-train", message)
    values = {name.lower(): int(value) for name, value in re.findall(r"(TRAINING_\w+)=(\d+)", commands[-1])}
    assert even(Settings(**values), payments, frauds, days) is None


def test_the_day_on_which_it_is_enough_is_named() -> None:
    """One fraud a day: 100 days have 25 in a quarter, of which 40 are there."""
    assert days_needed(1.0, 50) == 100
    message = even(Settings(), 40_000, 40, 40)
    until = START + timedelta(days=100) + MATURITY
    assert message is not None
    assert f"takes about 100 days of matured payments, and there are 40: when payments of about {until:%Y-%m-%d}" in (
        message
    )
    assert "TRAINING_DAYS=100 make ml-train" in message


@pytest.mark.parametrize(("rate", "days"), [(100.0, 4), (5.0, 20), (3.0, 34), (0.1, 1000), (0.02, None), (0.0, None)])
def test_days_needed(rate: float, days: int | None) -> None:
    assert days_needed(rate, 50) == days


def test_labels_that_came_too_late_are_named() -> None:
    """D15: all labels of a file were sent as known today."""
    history = History(START, START + timedelta(days=45), 40_000, 400)
    with pytest.raises(TooFewExamples, match=r"10 of 276 .* had one by .*reported_at.*label_delay_days") as raised:
        check_enough(Settings(), Counts(10, 30_000, 60, 6_000, 266), periods(START, history.end), history)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("late", "left_out", "named"),
    [
        (0, False, "no payment arrived after"),
        (40, True, r"40 of 40,000 matured payments \(0.10%\) are left out"),
        (4_000, True, "are left out"),
        (4_001, False, r"4,001 of 40,000 matured payments \(10.00%\) .* so many that none of them is left out"),
    ],
)
def test_payments_whose_history_came_late_are_left_out(late: int, left_out: bool, named: str) -> None:
    """They are few; a file in no order of time would lose nearly all of its payments."""
    decided, reason = leave_out_late_history(History(START, START + timedelta(days=45), 40_000, 400, late))
    assert decided == left_out and re.match(f".*{named}", reason)


@pytest.mark.parametrize(
    ("payments", "days", "named"),
    [
        (0, 0, "Silver has none; send payments"),
        (4_000, 10, "4,000 payments from 2026-01-01 to 2026-01-11, and a payment matures when the newest is 14 days"),
        (4_000, 10, "payments of 2026-01-15 arrive"),
        (4_000, 14, "build the examples with make dbt-run"),
    ],
)
def test_why_no_payment_has_matured(payments: int, days: int, named: str) -> None:
    """D15: too young, not sent, or not built."""
    end = START + timedelta(days=days)
    message = nothing_matured(payments, START if payments else None, end if payments else None)
    assert named in message
    assert "make ml-train" in message and "\n" not in message


def test_payments_mature_when_dbt_says_so() -> None:
    assert f"label_maturity_days: {MATURITY.days}\n" in DBT_PROJECT.read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["--skip-if-too-few"], EXIT_SKIPPED)],
    ids=["a person's command", "the weekly run"],
)
def test_too_few_examples_fail_a_command_and_skip_the_weekly_run(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_few(_: Settings) -> None:
        raise TooFewExamples("too few frauds")

    monkeypatch.setattr(train, "load_dataset", too_few)
    monkeypatch.setattr(train.registry, "connect", lambda _: None)
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert ended.value.code == code
    assert "too few frauds" in capsys.readouterr().err


def warm_up(history_days: int, frauds_left: int, **settings: int) -> tuple[bool, str]:
    """What is decided for a model of a history of so many matured days, with so many frauds in full windows."""
    of = Settings(**settings)
    end = START + timedelta(days=history_days)
    split = periods(max(START, end - timedelta(days=of.training_days)), end)
    return leave_out_warm_up(of, split, without_warm_up(split, START), Counts(frauds_left, 10_000, 500, 10_000))


def test_the_first_30_days_are_left_out() -> None:
    """F2: of 61 matured days a model learns from day 16 on, and from day 30 on without the warm-up."""
    assert warm_up(61, 4_000) == (
        True,
        "the warm-up, from 2026-01-17 to 2026-01-31, is left out: until then the windows of features are not full",
    )


@pytest.mark.parametrize(
    ("days", "frauds", "why"),
    [
        (75, 4_000, "all examples have full windows"),
        (31, 0, "from 2026-01-01 to 2026-01-18, is kept, since less than half of the training period would remain"),
        (50, 700, "is kept, since less than half of the training period would remain"),
        (61, 49, "is kept, since only 49 frauds would remain, and 50 are needed"),
    ],
    ids=["an old history", "the first model", "a few days more", "few frauds"],
)
def test_nothing_is_left_out_if_too_little_remains(days: int, frauds: int, why: str) -> None:
    """F2: and the log says why."""
    left_out, reason = warm_up(days, frauds)
    assert not left_out and why in reason


def test_a_long_training_period_starts_with_full_windows() -> None:
    end = START + timedelta(days=166)
    warm = without_warm_up(periods(START, end), START)
    assert (warm.start, warm.end) == (START + timedelta(days=30), end)
    assert warm_up(166, 200, training_days=166)[0]

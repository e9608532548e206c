"""Drift: the textbook's index against the same hours, tails, and no number where nothing can be compared."""

import json
import math
import random
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import monitoring.__main__ as program
import pytest
from monitoring.__main__ import FEATURE, MISSING, REFERENCE, ROWS, SCORE, TAIL, clear, show
from monitoring.drift import compare, drift, hour_of_week, tails
from monitoring.features import Features, is_number
from monitoring.psi import index, shares
from monitoring.sources import Distribution, Reference, Scored, Unavailable, parse_reference
from monitoring.window import Window

DECILES = [position / 10 for position in range(1, 10)]
REFERENCE_OF_3 = Reference(
    version="3",
    score=Distribution(DECILES, [0.1] * 10),
    features={"amount": Distribution([10.0, 100.0], [0.5, 0.3, 0.2])},
)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def scored(number: int, score: float, amount: Any = 5.0, version: str = "3") -> Scored:
    return Scored(f"p{number}", version, MONDAY, score, Features.of({"amount": amount}))


def score_drift(rows: list[Scored]) -> float | None:
    return compare(rows, REFERENCE_OF_3)[0].index


def feature_drift(rows: list[Scored]) -> dict[str, float | None]:
    return {name: found.index for name, found in compare(rows, REFERENCE_OF_3)[1].items()}


def test_shares_of_values_on_and_between_edges() -> None:
    assert shares([1, 10, 10.5, 100, 1000], [10, 100]) == [0.4, 0.4, 0.2]


def test_the_index_by_hand() -> None:
    assert index([0.5, 0.5], [0.5, 0.5]) == 0
    assert index([0.5, 0.5], [0.8, 0.2]) == pytest.approx(0.3 * math.log(1.6) - 0.3 * math.log(0.4))
    assert math.isfinite(index([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]))


def test_the_index_separates_the_same_distribution_from_another() -> None:
    draw = random.Random(42)
    same = [scored(number, draw.random()) for number in range(5000)]
    other = [scored(number, draw.random() ** 2) for number in range(5000)]
    assert score_drift(same) < 0.01
    assert score_drift(other) > 0.25


def test_each_feature_is_compared_by_itself() -> None:
    as_before = [scored(number, 0.5, amount) for number, amount in enumerate([5.0] * 5 + [50.0] * 3 + [500.0] * 2)]
    assert feature_drift(as_before)["amount"] == pytest.approx(0)
    assert feature_drift([scored(1, 0.5, 500.0)])["amount"] > 1


def test_a_window_counts_a_payment_once_and_drops_it_when_old() -> None:
    window = Window(seconds=60)
    window.add([scored(1, 0.1), scored(2, 0.2)], now=0)
    window.add([scored(2, 0.2), scored(3, 0.3, version="4")], now=30)
    assert [row.prediction_id for row in window.of("3")] == ["p1", "p2"]
    window.add([scored(4, 0.4)], now=70)
    assert [row.prediction_id for row in window.of("3")] == ["p4"]
    assert [row.prediction_id for row in window.of("4")] == ["p3"]


def test_too_few_payments_or_no_reference_give_no_drift() -> None:
    window = Window(seconds=60)
    window.add([scored(number, number / 1000) for number in range(1000)], now=0)
    show(window, REFERENCE_OF_3, minimum=500)
    assert SCORE.collect()[0].samples[0].value < 0.01
    assert [sample.labels["feature"] for sample in FEATURE.collect()[0].samples] == ["amount"]
    for reference, minimum, rows in ((REFERENCE_OF_3, 2000, 1000), (None, 500, 0)):
        show(window, reference, minimum)
        assert math.isnan(SCORE.collect()[0].samples[0].value)
        assert FEATURE.collect()[0].samples == TAIL.collect()[0].samples == []
        assert ROWS.collect()[0].samples[0].value == rows
    assert REFERENCE.collect()[0].samples[0].value == 0


def test_before_the_first_comparison_there_is_no_drift() -> None:
    clear()
    assert math.isnan(SCORE.collect()[0].samples[0].value)


def test_an_hour_is_compared_with_the_same_hours_of_the_holdout() -> None:
    """Field case I7: `event_hour` over an hour, against a week, was always far away."""
    edges = [hour + 0.5 for hour in range(23)]
    week = Distribution(
        edges,
        [1 / 24] * 24,
        # Mondays are like other days, but for an hour in which a batch of payments at 3:00 arrives late.
        by_hour_of_week={4: [0, 0, 0, 0.5, 0.5, *[0] * 19]},
        by_hour_of_day={hour: [float(position == hour) for position in range(24)] for hour in range(24)},
    )
    hour = timedelta(hours=1)
    night = [(MONDAY + 3 * hour, 3)] * 300 + [(MONDAY + 4 * hour, 4)] * 150 + [(MONDAY + 4 * hour, 3)] * 150

    def moved(payments: list[tuple[datetime, int]], reference: Distribution = week) -> float:
        times, values = zip(*payments, strict=True)
        found = drift([hour_of_week(at) for at in times], values, reference).index
        assert found is not None
        return found

    assert moved(night) == pytest.approx(0, abs=1e-3)
    # On a Tuesday there is no such batch.
    assert moved([(at + 24 * hour, value) for at, value in night]) > 0.25
    # Another time zone is no drift.
    east = timezone(5 * hour)
    assert moved([(at.astimezone(east), value) for at, value in night]) == pytest.approx(0, abs=1e-3)
    # Models of earlier releases have no hours.
    assert moved(night, Distribution(edges, [1 / 24] * 24)) > 1


def test_a_tail_that_grows_is_seen_where_the_index_is_small() -> None:
    """Field case I7: in ten equal bins, a tail of 4 % instead of 1 % is hidden."""
    expected, found = [0.01, 0.89, 0.09, 0.01], [0.01, 0.86, 0.09, 0.04]
    assert index(expected, found) < 0.1
    assert tails(expected, found, 2_000) == pytest.approx({"low": 1, "high": 4})
    # Five expected payments prove nothing; a value above all of the holdout does, once there are many.
    assert tails(expected, found, 500) == {}
    assert tails([0.5, 0.5, 0], [0.4, 0.5, 0.1], 2_000) == pytest.approx({"low": 0.8, "high": 20})


@pytest.mark.parametrize("value", [None, "12", math.nan, math.inf, [1], {}, 10**400])
def test_what_is_no_number_is_left_out_and_counted(value: Any) -> None:
    """Field case I7: a null in the features ended the process."""
    assert not is_number(value)
    window = Window(seconds=60)
    good = [scored(number, number / 1000, amount) for number, amount in enumerate([5.0, 50.0, 500.0] * 200)]
    odd = [scored(1_000 + number, 0.5, value) for number in range(200)]
    bare = [
        Scored(f"n{number}", "3", MONDAY, 0.5, Features.of([None, {}, [], "x"][number % 4])) for number in range(200)
    ]
    window.add(good + odd + bare, now=0)
    show(window, REFERENCE_OF_3, minimum=500)
    assert MISSING.labels("amount")._value.get() == pytest.approx(0.4)
    assert FEATURE.labels("amount")._value.get() < 0.25
    # Nothing but nulls: no index, and all is missing.
    nothing = Window(seconds=60)
    nothing.add(odd, now=0)
    show(nothing, REFERENCE_OF_3, minimum=100)
    assert FEATURE.collect()[0].samples == []
    assert MISSING.labels("amount")._value.get() == 1


def test_a_reference_from_its_file() -> None:
    old = {"edges": [0.5], "shares": [0.5, 0.5]}
    new = old | {"by_hour_of_week": {"167": [0.4, 0.6]}, "by_hour_of_day": {"23": [0.3, 0.7]}}
    parsed = parse_reference("7", {"score": old, "features": {"amount": new}})
    assert parsed.score == Distribution([0.5], [0.5, 0.5])
    assert parsed.features["amount"].by_hour_of_week == {167: [0.4, 0.6]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": [0.5], "shares": [1.0]},
        {"edges": [2.0, 1.0], "shares": [0.2, 0.3, 0.5]},
        {"edges": [0.5], "shares": [0.5, 0.5], "by_hour_of_day": {"1": [1.0]}},
        {"edges": None, "shares": []},
        {},
        "text",
    ],
)
def test_a_file_that_is_no_reference_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        parse_reference("7", {"score": wrong, "features": {}})


def test_when_the_sources_do_not_answer_old_values_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Field case I5: neither panels nor alerts take an hour-old value for what is true now."""
    SCORE.set(0.4)
    FEATURE.labels("amount").set(0.4)
    values = []

    class Stop(threading.Event):
        """Set after so many waits of half a minute each."""

        def wait(self, timeout: float | None = None) -> bool:
            clock.now += 30
            values.append(SCORE.collect()[0].samples[0].value)
            return clock.now > 300

    class clock:  # noqa: N801 - stands for a module
        now = 0.0

        @staticmethod
        def monotonic() -> float:
            return clock.now

    def unavailable(*_: object) -> list[Scored]:
        raise Unavailable("no answer")

    monkeypatch.setattr(program, "time", clock)
    monkeypatch.setattr(program, "newest_predictions", unavailable)
    program.watch(program.Settings(), Stop())
    # A moment's outage changes nothing.
    assert values[:2] == [0.4, 0.4] and math.isnan(values[-1])
    assert FEATURE.collect()[0].samples == []


def test_an_hour_of_predictions_fits_the_container() -> None:
    """7,200 predictions of 75 features took 67 MiB as JSON."""
    names = [f"a_feature_with_a_long_name_{number}" for number in range(75)]
    document = json.dumps(dict.fromkeys(names, 1.5))
    tracemalloc.start()
    rows = [Features.of(json.loads(document)) for _ in range(720)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(rows) < 1_000
    assert rows[-1].get(names[-1]) == 1.5 and math.isnan(rows[-1].get("another"))

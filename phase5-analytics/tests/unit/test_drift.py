"""Drift: the textbook's index, a window that drops old rows, and no number where nothing can be compared."""

import math
import random

import pytest
from monitoring.__main__ import FEATURE, REFERENCE, ROWS, SCORE, compare
from monitoring.psi import index, shares
from monitoring.sources import Reference, Scored
from monitoring.window import Window, feature_drift, score_drift

DECILES = [position / 10 for position in range(1, 10)]
REFERENCE_OF_3 = Reference(
    version="3",
    score={"edges": DECILES, "shares": [0.1] * 10},
    features={"amount": {"edges": [10.0, 100.0], "shares": [0.5, 0.3, 0.2]}},
)


def scored(number: int, score: float, amount: float = 5.0, version: str = "3") -> Scored:
    return Scored(f"p{number}", version, score, {"amount": amount})


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
    assert score_drift(same, REFERENCE_OF_3) < 0.01
    assert score_drift(other, REFERENCE_OF_3) > 0.25


def test_each_feature_is_compared_by_itself() -> None:
    as_before = [scored(number, 0.5, amount) for number, amount in enumerate([5.0] * 5 + [50.0] * 3 + [500.0] * 2)]
    assert feature_drift(as_before, REFERENCE_OF_3)["amount"] == pytest.approx(0)
    assert feature_drift([scored(1, 0.5, 500.0)], REFERENCE_OF_3)["amount"] > 1


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
    compare(window, REFERENCE_OF_3, minimum=500)
    assert SCORE.collect()[0].samples[0].value < 0.01
    assert [sample.labels["feature"] for sample in FEATURE.collect()[0].samples] == ["amount"]
    for reference, minimum, rows in ((REFERENCE_OF_3, 2000, 1000), (None, 500, 0)):
        compare(window, reference, minimum)
        assert math.isnan(SCORE.collect()[0].samples[0].value)
        assert FEATURE.collect()[0].samples == []
        assert ROWS.collect()[0].samples[0].value == rows
    assert REFERENCE.collect()[0].samples[0].value == 0

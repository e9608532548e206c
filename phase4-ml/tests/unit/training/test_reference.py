"""The distributions that live payments are compared with."""

import numpy as np
import pytest
from features import FEATURES
from training.reference import (
    BACKGROUND_PAYMENTS,
    SMALLEST_HOUR,
    background,
    distribution,
    hour_of_week,
    reference,
)
from training_world import world

MONDAY = np.datetime64("2026-01-05T00:30", "ms")


def at_once(count: int) -> np.ndarray:
    """All payments in the first hour of the week."""
    return np.zeros(count, dtype=np.int64)


def test_a_reference_has_even_bins_with_divided_tails_and_counts_by_weight() -> None:
    values = np.linspace(0, 1, 10_000)
    even = distribution(values, np.ones(10_000), at_once(10_000))
    assert len(even["edges"]) == 13
    assert even["shares"] == pytest.approx([0.01, 0.04, 0.05, *[0.1] * 8, 0.05, 0.04, 0.01], abs=0.001)
    # The upper half represents three times as many payments.
    heavy = distribution(values, np.where(values > 0.5, 3.0, 1.0), at_once(10_000))
    assert heavy["edges"][6] > 0.6
    assert heavy["shares"] == pytest.approx([0.01, 0.04, 0.05, *[0.1] * 8, 0.05, 0.04, 0.01], abs=0.001)


def test_a_reference_of_a_flag_has_a_bin_for_each_value() -> None:
    flag = distribution(np.array([0.0] * 70 + [1.0] * 30), np.ones(100), at_once(100))
    assert flag["shares"] == pytest.approx([0.7, 0.3, 0.0])
    assert 0 < flag["edges"][0] < 1e-6


def test_hours_of_the_week() -> None:
    times = MONDAY + np.array([0, 25 * 60, 6 * 24 * 60 + 23 * 60, 7 * 24 * 60]).astype("timedelta64[m]")
    assert hour_of_week(times).tolist() == [0, 25, 167, 0]
    assert hour_of_week(np.array(["1969-12-29T00:00"], dtype="datetime64[ms]")).tolist() == [0]


def test_an_hour_with_enough_examples_has_its_own_shares() -> None:
    """Field case I7."""
    hours = np.repeat([5, 29, 40], [SMALLEST_HOUR, SMALLEST_HOUR - 1, 50])
    values = np.repeat([0.0, 1.0, 2.0], [SMALLEST_HOUR, SMALLEST_HOUR - 1, 50])
    made = distribution(values, np.ones(len(values)), hours)
    assert list(made["by_hour_of_week"]) == ["5"]
    assert made["by_hour_of_week"]["5"] == pytest.approx([1, 0, 0, 0])
    # 5:00 on Monday and on Tuesday.
    assert list(made["by_hour_of_day"]) == ["5"]
    assert made["by_hour_of_day"]["5"] == pytest.approx([0.5, 0.5, 0, 0], abs=0.01)


def test_a_reference_has_every_feature() -> None:
    examples = world(1_000)
    made = reference(examples, np.linspace(0, 1, len(examples)))
    assert list(made["features"]) == list(FEATURES)
    for found in (made["score"], *made["features"].values()):
        assert len(found["shares"]) == len(found["edges"]) + 1
        assert sum(found["shares"]) == pytest.approx(1, abs=1e-4)
        assert found["edges"] == sorted(set(found["edges"]))


def test_a_background_is_of_legitimate_payments_by_their_weight() -> None:
    examples = world(2_000)
    at = np.arange(len(examples))
    examples.matrix[:, 0] = at
    examples.weight[at >= 1_500] = 1e9
    drawn = background(examples, seed=1)
    assert drawn.shape == (BACKGROUND_PAYMENTS, len(FEATURES))
    rows = drawn[:, 0].astype(int)
    assert len(set(rows)) == BACKGROUND_PAYMENTS and rows.min() >= 1_500
    assert not examples.is_fraud[rows].any()
    assert np.array_equal(drawn, background(examples, seed=1))


def test_a_background_of_few_payments_is_all_of_them() -> None:
    examples = world(40)
    assert len(background(examples, seed=1)) == (~examples.is_fraud).sum()

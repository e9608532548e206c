"""The distributions that live payments are compared with."""

import numpy as np
import pytest
from features import FEATURES
from training.reference import BACKGROUND_PAYMENTS, background, distribution, reference
from training_world import world


def test_a_reference_has_ten_even_bins_and_counts_by_weight() -> None:
    values = np.linspace(0, 1, 10_000)
    even = distribution(values, np.ones(10_000))
    assert len(even["edges"]) == 9
    assert even["shares"] == pytest.approx([0.1] * 10, abs=0.001)
    # The upper half represents three times as many payments.
    heavy = distribution(values, np.where(values > 0.5, 3.0, 1.0))
    assert heavy["edges"][4] > 0.6
    assert heavy["shares"] == pytest.approx([0.1] * 10, abs=0.001)


def test_a_reference_of_a_flag_has_a_bin_for_each_value() -> None:
    flag = distribution(np.array([0.0] * 70 + [1.0] * 30), np.ones(100))
    assert flag["shares"] == pytest.approx([0.7, 0.3, 0.0])
    assert 0 < flag["edges"][0] < 1e-6


def test_a_reference_has_every_feature() -> None:
    examples = world(1_000)
    made = reference(examples, np.linspace(0, 1, len(examples)))
    assert list(made["features"]) == list(FEATURES)
    for found in (made["score"], *made["features"].values()):
        assert len(found["shares"]) == len(found["edges"]) + 1
        assert sum(found["shares"]) == pytest.approx(1)
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

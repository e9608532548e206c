"""The sample of legitimate payments: how many are drawn, and how much they weigh."""

import pytest
from training.enough import Counts
from training.sample import plan_sample, weigh_sample
from training.settings import Settings
from training_world import SPLIT, few


def test_a_drawn_payment_represents_those_left_out() -> None:
    # 3,000 of 12,000 legitimate payments are drawn; frauds and the holdout are complete.
    sample = plan_sample(Settings(training_legitimate_per_fraud=30), Counts(100, 12_000, 60, 5_000))
    assert sample.expected_rows == 100 + 3_000 + 60 + 5_000
    examples = few([1.0, 2.0, 3.0, 27.0], is_fraud=[True, False, False, False])
    weigh_sample(examples, sample, SPLIT)
    assert examples.weight.tolist() == pytest.approx([1.0, 4.0, 4.0, 1.0], rel=1e-5)


def test_nothing_is_weighted_if_all_fit() -> None:
    sample = plan_sample(Settings(), Counts(100, 2_000, 60, 5_000))
    examples = few([1.0, 2.0], is_fraud=[True, False])
    weigh_sample(examples, sample, SPLIT)
    assert examples.weight.tolist() == [1.0, 1.0]


def test_no_example_is_drawn_where_frauds_are_common() -> None:
    """D15: 8 % of the payments are frauds; all legitimate payments are read."""
    sample = plan_sample(Settings(), Counts(8_000, 92_000, 1_300, 15_000))
    assert (sample.weight, sample.expected_rows) == (1.0, 116_300)

"""The sample of legitimate payments: how many are drawn, and how much they weigh."""

import pytest
from fraud_common.errors import UserError
from training.sample import Counts, plan_sample, weigh_sample
from training.settings import Settings
from training_world import SPLIT, few


def test_a_drawn_payment_represents_those_left_out() -> None:
    # 3,000 of 12,000 legitimate payments are drawn; frauds and the holdout are complete.
    sample = plan_sample(Settings(training_legitimate_per_fraud=30), Counts(100, 12_000, 60, 5_000), SPLIT)
    assert sample.expected_rows == 100 + 3_000 + 60 + 5_000
    examples = few([1.0, 2.0, 3.0, 27.0], is_fraud=[True, False, False, False])
    weigh_sample(examples, sample, SPLIT)
    assert examples.weight.tolist() == pytest.approx([1.0, 4.0, 4.0, 1.0], rel=1e-5)


def test_nothing_is_weighted_if_all_fit() -> None:
    sample = plan_sample(Settings(), Counts(100, 2_000, 60, 5_000), SPLIT)
    examples = few([1.0, 2.0], is_fraud=[True, False])
    weigh_sample(examples, sample, SPLIT)
    assert examples.weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("counts", [Counts(49, 9_000, 60, 5_000), Counts(100, 9_000, 24, 5_000)])
def test_too_few_frauds_are_refused(counts: Counts) -> None:
    message = rf"too few frauds.*: {counts.frauds} from .* and {counts.holdout_frauds} in the holdout"
    with pytest.raises(UserError, match=message):
        plan_sample(Settings(training_minimum_frauds=50), counts, SPLIT)

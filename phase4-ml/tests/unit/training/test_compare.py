"""A new model beside what serves now: metrics as scikit-learn has them, and what counts as chance."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from training.compare import Comparison, Serving, Skill, compare
from training.examples import Examples, split_by_time
from training.registry import rules_scores
from training_world import SPLIT, few, world


@pytest.fixture(scope="module")
def holdout() -> Examples:
    _, holdout = split_by_time(world(4_000), SPLIT)
    return holdout


def noisy(holdout: Examples, signal: float, seed: int) -> np.ndarray:
    """Scores that are higher for frauds by so many standard deviations; in steps, so that many are equal."""
    noise = np.random.default_rng(seed).normal(0, 1, len(holdout))
    return np.round(signal * holdout.is_fraud + noise, 1)


def beside(holdout: Examples, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    return compare(holdout, ours, Serving("rules-1", theirs, "nothing is in Production"))


def test_skills_are_those_of_scikit_learn(holdout: Examples) -> None:
    ours, theirs = noisy(holdout, 2.0, 1), rules_scores(holdout)
    found = beside(holdout, ours, theirs)
    for skill, scores in ((found.new, ours), (found.served, theirs)):
        assert skill.auc == pytest.approx(roc_auc_score(holdout.is_fraud, scores))
        assert skill.average_precision == pytest.approx(average_precision_score(holdout.is_fraud, scores))
    assert found.frauds == holdout.is_fraud.sum()
    assert (found.served_by, found.note) == ("rules-1", "nothing is in Production")


def test_a_clear_difference_is_not_chance(holdout: Examples) -> None:
    found = beside(holdout, noisy(holdout, 2.0, 1), noisy(holdout, 0.5, 2))
    gain = found.new.average_precision - found.served.average_precision
    assert 0 < found.average_precision_gain.low < gain < found.average_precision_gain.high
    assert 0 < found.auc_gain.low < found.new.auc - found.served.auc < found.auc_gain.high


def test_two_models_of_equal_skill_differ_by_chance(holdout: Examples) -> None:
    pairs = [beside(holdout, noisy(holdout, 1.0, seed), noisy(holdout, 1.0, seed + 100)) for seed in range(10)]
    assert sum(pair.average_precision_gain.low > 0 for pair in pairs) <= 1
    assert sum(pair.auc_gain.high < 0 for pair in pairs) <= 1


def test_the_same_scores_do_not_differ(holdout: Examples) -> None:
    scores = noisy(holdout, 1.0, 1)
    found = beside(holdout, scores, scores)
    assert (found.average_precision_gain.low, found.average_precision_gain.high) == (0, 0)


def test_frauds_on_one_card_on_one_day_count_as_one_observation() -> None:
    """The same 30 frauds, on 30 cards or on one card of one day: a draw may have none of those."""
    payments = [21.1] * 230
    labels = [True] * 30 + [False] * 200
    ours = np.array([1.0] * 30 + [0.0] * 200)
    theirs = np.zeros(230)
    cards = [f"A{i}" for i in range(230)]
    one_card = ["A"] * 30 + cards[30:]
    apart = beside(few(payments, is_fraud=labels, user_id=cards), ours, theirs)
    together = beside(few(payments, is_fraud=labels, user_id=one_card), ours, theirs)
    assert apart.new == together.new == Skill(1.0, 1.0)
    assert apart.average_precision_gain.low > 0.5
    assert together.average_precision_gain.low == 0


def test_the_days_of_the_only_user_are_drawn() -> None:
    random = np.random.default_rng(1)
    days = random.uniform(21, 28, 2_000).tolist()
    holdout = few(days, user_id=["only"] * 2_000, is_fraud=(random.random(2_000) < 0.05).tolist())
    found = beside(holdout, noisy(holdout, 3.0, 1), noisy(holdout, 0.2, 2))
    assert 0 < found.average_precision_gain.low < found.average_precision_gain.high


def test_scores_of_rules_1_are_those_that_serve(holdout: Examples) -> None:
    scores = rules_scores(holdout)
    assert scores.shape == (len(holdout),)
    assert scores.min() >= 0.01 - 1e-9 and scores.max() < 1

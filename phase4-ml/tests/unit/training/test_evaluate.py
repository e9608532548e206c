"""Evaluation and thresholds, on scores that are computed, not learned."""

import dataclasses

import numpy as np
import pytest
from mlflow.utils.validation import _validate_metric_name
from sklearn.metrics import roc_auc_score
from training import evaluate
from training.examples import Examples, split_by_time
from training.settings import Settings
from training.thresholds import Thresholds, cheapest_threshold, choose_thresholds, cost
from training_world import SCENARIOS, SPLIT, few, world

SETTINGS = Settings()


@pytest.fixture(scope="module")
def holdout() -> Examples:
    _, holdout = split_by_time(world(4_000), SPLIT)
    return holdout


@pytest.fixture(scope="module")
def scores(holdout: Examples) -> np.ndarray:
    """Higher for frauds, with much noise."""
    noise = np.random.default_rng(0).normal(0, 1, len(holdout))
    return 1 / (1 + np.exp(3 - 2 * holdout.is_fraud - noise))


def test_card_precision_counts_cards_not_payments() -> None:
    # Day 21: A (twice) and B lead, A has a fraud; day 22: C and D lead, both have one. E is never among the two.
    holdout = few(
        [21.1, 21.2, 21.3, 21.4, 22.1, 22.2, 22.3],
        user_id=["A", "A", "B", "E", "C", "D", "E"],
        is_fraud=[True, False, False, True, True, True, False],
    )
    scores = np.array([0.2, 0.9, 0.8, 0.1, 0.7, 0.6, 0.5])
    assert evaluate.card_precision(holdout, scores, cards=2) == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_calibration_error_is_the_distance_from_the_observed_rate() -> None:
    random = np.random.default_rng(2)
    probability = random.uniform(0, 0.4, 200_000)
    is_fraud = random.random(len(probability)) < probability
    assert evaluate.calibration_error(is_fraud, probability) < 0.005
    assert evaluate.calibration_error(is_fraud, probability + 0.1) == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("action_cost", [SETTINGS.training_review_cost, SETTINGS.training_challenge_cost])
def test_no_threshold_costs_less(holdout: Examples, scores: np.ndarray, action_cost: float) -> None:
    least = min(cost(holdout, scores, threshold, action_cost) for threshold in np.unique(scores))
    chosen = cheapest_threshold(holdout, scores, action_cost)
    assert cost(holdout, scores, chosen, action_cost) == pytest.approx(least)


def test_the_cheaper_action_has_the_lower_threshold(holdout: Examples, scores: np.ndarray) -> None:
    thresholds = choose_thresholds(SETTINGS, holdout, scores)
    assert thresholds.medium <= thresholds.high
    assert thresholds.high == cheapest_threshold(holdout, scores, SETTINGS.training_review_cost)


def test_a_threshold_flags_all_payments_of_one_score_or_none() -> None:
    # Flagging the fraud of 50 alone would be cheapest, but a legitimate payment has the same score.
    holdout = few([21.0, 21.1, 21.2], amount=[50.0, 10.0, 10.0], is_fraud=[True, False, False])
    scores = np.array([0.5, 0.5, 0.1])
    assert choose_thresholds(SETTINGS, holdout, scores) == Thresholds(medium=0.5, high=0.5)


def test_a_report_is_overall_and_by_scenario(holdout: Examples, scores: np.ndarray) -> None:
    report = evaluate.evaluate(SETTINGS, holdout, scores)
    assert report.metrics["auc_roc"] == pytest.approx(roc_auc_score(holdout.is_fraud, scores))
    assert report.metrics["base_rate"] == pytest.approx(holdout.is_fraud.mean())
    assert sum(report.metrics[f"{s}.frauds"] for s in SCENARIOS) == holdout.is_fraud.sum()
    flagged = scores >= report.thresholds.high
    assert report.metrics["recall_high"] == pytest.approx(flagged[holdout.is_fraud].mean())
    for scenario in SCENARIOS:
        own = holdout.fraud_type == scenario
        among = own | ~holdout.is_fraud
        assert report.metrics[f"{scenario}.recall_high"] == pytest.approx(flagged[own].mean())
        assert report.metrics[f"{scenario}.auc_roc"] == pytest.approx(roc_auc_score(own[among], scores[among]))


def test_scenarios_of_any_name_and_number_can_be_logged(holdout: Examples, scores: np.ndarray) -> None:
    """D15: people's own names of scenarios: MLflow refuses a metric whose name has other characters."""
    frauds = np.flatnonzero(holdout.is_fraud)
    fraud_type = holdout.fraud_type.copy()
    fraud_type[frauds] = [f"case {i}" for i in range(len(frauds))]
    fraud_type[frauds[:6]] = "Betrug (Karte)/$1: 100 %"
    own = dataclasses.replace(holdout, fraud_type=fraud_type)
    metrics = evaluate.evaluate(SETTINGS, own, scores).metrics
    assert metrics["Betrug _Karte___1_ 100 _.frauds"] == 6
    assert sum(name.endswith(".frauds") for name in metrics) == evaluate.SCENARIOS
    for name in metrics:
        _validate_metric_name(name)

"""The thresholds of the risk tiers: how they are chosen and where they are stored. Nothing else decides about them.

`choose_thresholds` minimises the expected cost on the holdout. Training stores the result with the model, in the run's
artifact `serving/model.json` under `thresholds`, so a version and its thresholds are promoted and rolled back together;
the API reads them from there (serving/model_store.py). Scores of rules-1 have their own (serving/rules_1.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.examples import Examples
from training.settings import Settings


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The lowest scores of the tiers medium and high; the names of the fields are those in model.json."""

    medium: float
    high: float


def choose_thresholds(settings: Settings, holdout: Examples, scores: NDArray[np.float64]) -> Thresholds:
    """The thresholds that minimise the expected cost on the holdout.

    `high` asks for an expensive action, an analyst's review (TRAINING_REVIEW_COST); `medium` for a cheap one, a
    confirmation by the cardholder (TRAINING_CHALLENGE_COST). A missed fraud costs its amount.
    """
    high = cheapest_threshold(holdout, scores, settings.training_review_cost)
    return Thresholds(
        medium=min(cheapest_threshold(holdout, scores, settings.training_challenge_cost), high), high=high
    )


def cheapest_threshold(holdout: Examples, scores: NDArray[np.float64], action_cost: float) -> float:
    """The threshold of the lowest `cost`, among the scores."""
    order = np.argsort(-scores, kind="stable")
    saved = np.cumsum(np.where(holdout.is_fraud, holdout.amount, 0.0)[order])
    flagged = np.arange(1, len(order) + 1)
    # A threshold flags all payments of one score or none.
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    gain = np.where(last_of_score, saved - action_cost * flagged, -np.inf)
    return float(scores[order][int(np.argmax(gain))])


def cost(holdout: Examples, scores: NDArray[np.float64], threshold: float, action_cost: float) -> float:
    """What a threshold costs: an action for each flagged payment, and the amount of each fraud that is not flagged."""
    flagged = scores >= threshold
    return float(action_cost * flagged.sum() + holdout.amount[holdout.is_fraud & ~flagged].sum())

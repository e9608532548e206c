"""How good a model is on the holdout: metrics, overall and by fraud scenario."""

import re
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training.examples import Examples
from training.settings import Settings
from training.thresholds import Thresholds, choose_thresholds, cost

CARDS_PER_DAY = 100
# Of the calibration: so few that a bin of a usual holdout has thousands of payments.
BINS = 20
# At most so many scenarios have metrics of their own.
SCENARIOS = 20

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Report:
    """The result: metrics by name, and the thresholds of the risk tiers."""

    metrics: dict[str, float]
    thresholds: Thresholds


def evaluate(settings: Settings, holdout: Examples, scores: Scores) -> Report:
    """Evaluate the scores of the holdout."""
    thresholds = choose_thresholds(settings, holdout, scores)
    base_rate, mean_score = float(holdout.is_fraud.mean()), float(scores.mean())
    metrics = {
        "auc_roc": float(roc_auc_score(holdout.is_fraud, scores)),
        "average_precision": float(average_precision_score(holdout.is_fraud, scores)),
        f"card_precision_at_{CARDS_PER_DAY}": card_precision(holdout, scores),
        "brier": float(brier_score_loss(holdout.is_fraud, scores)),
        # Of a constant score, which knows the base rate.
        "brier_of_base_rate": base_rate * (1 - base_rate),
        "calibration_error": calibration_error(holdout.is_fraud, scores),
        "base_rate": base_rate,
        "mean_score": mean_score,
        "mean_score_to_base_rate": mean_score / base_rate,
        "cost_per_1000": 1000 * cost(holdout, scores, thresholds.high, settings.training_review_cost) / len(holdout),
        "cost_per_1000_without": 1000 * float(holdout.amount[holdout.is_fraud].sum()) / len(holdout),
    }
    for tier, threshold in asdict(thresholds).items():
        metrics |= _at_threshold(threshold, tier, holdout.is_fraud, scores)
    for scenario in scenarios(holdout):
        own = ~holdout.is_fraud | (holdout.fraud_type == scenario)
        name = metric_name(scenario)
        metrics |= {
            f"{name}.frauds": float((holdout.fraud_type[own & holdout.is_fraud] == scenario).sum()),
            f"{name}.auc_roc": float(roc_auc_score(holdout.is_fraud[own], scores[own])),
            f"{name}.average_precision": float(average_precision_score(holdout.is_fraud[own], scores[own])),
            f"{name}.recall_high": float((scores[own & holdout.is_fraud] >= thresholds.high).mean()),
            f"{name}.recall_medium": float((scores[own & holdout.is_fraud] >= thresholds.medium).mean()),
        }
    return Report(metrics, thresholds)


def scenarios(holdout: Examples) -> list[str]:
    """The names of the fraud scenarios, sorted; of people's own data, which may have any number, the most frequent."""
    names, frauds = np.unique(holdout.fraud_type[holdout.is_fraud].astype(str), return_counts=True)
    named = [(-count, name) for name, count in zip(names.tolist(), frauds.tolist(), strict=True) if name]
    return sorted(name for _, name in sorted(named)[:SCENARIOS])


def metric_name(scenario: str) -> str:
    """The scenario in characters that MLflow allows in the name of a metric, at most 100."""
    return re.sub(r"[^\w -]", "_", scenario, flags=re.ASCII)[:100]


def _at_threshold(threshold: float, tier: str, is_fraud: NDArray[np.bool_], scores: Scores) -> dict[str, float]:
    flagged = scores >= threshold
    return {
        f"threshold_{tier}": threshold,
        f"recall_{tier}": float(flagged[is_fraud].mean()),
        f"precision_{tier}": float(is_fraud[flagged].mean()) if flagged.any() else 0.0,
        f"flagged_{tier}": float(flagged.mean()),
    }


def card_precision(examples: Examples, scores: Scores, cards: int = CARDS_PER_DAY) -> float:
    """Card precision@k: of the k cards with the highest scores of a day, the share with a fraud on it; mean over days.

    The measure of the Fraud Detection Handbook (chapter 4), since analysts review a number of cards a day, not of
    payments. Here a card that was found on one day may be found again on the next.
    """
    days = examples.event_time.astype("datetime64[D]")
    precisions = []
    for day in np.unique(days):
        today = days == day
        _, card = np.unique(examples.user_id[today].astype(str), return_inverse=True)
        top = np.zeros(card.max() + 1)
        np.maximum.at(top, card, scores[today])
        fraud = np.zeros(card.max() + 1, dtype=bool)
        np.logical_or.at(fraud, card, examples.is_fraud[today])
        precisions.append(fraud[np.argsort(-top, kind="stable")[:cards]].mean())
    return float(np.mean(precisions))


def calibration_error(is_fraud: NDArray[np.bool_], scores: Scores) -> float:
    """Expected calibration error: the mean over all payments of the distance between mean score and rate of their bin.

    The bins are those of `reliability`: 20, in the order of the scores, with as many payments in each. (Naeini, Cooper,
    Hauskrecht 2015, with bins of equal count.) At a base rate r it is at most about 2 r for scores near the rate, so
    0.002 means something only beside the base rate.
    """
    bins = reliability(is_fraud, scores)
    return float((bins.payments * np.abs(bins.mean_score - bins.rate)).sum() / bins.payments.sum())


@dataclass(frozen=True, slots=True)
class Reliability:
    """Payments in bins: how many, their mean score, and the rate of fraud; from the lowest scores to the highest."""

    payments: NDArray[np.int64]
    mean_score: Scores
    rate: Scores


def reliability(is_fraud: NDArray[np.bool_], scores: Scores) -> Reliability:
    """The payments in the order of their scores, in 20 bins of equal count."""
    bins = [part for part in np.array_split(np.argsort(scores, kind="stable"), BINS) if len(part)]
    return Reliability(
        np.array([len(part) for part in bins]),
        np.array([scores[part].mean() for part in bins]),
        np.array([is_fraud[part].mean() for part in bins]),
    )

"""How good a model is on the holdout: numbers, thresholds by cost, and plots. Pure, but for the drawing."""

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from features import FEATURES
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, precision_recall_curve, roc_auc_score

from training.data import Examples
from training.settings import Settings

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

CARDS_A_DAY = 100
BINS = 10

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Report:
    """What the holdout says: metrics by name, and the thresholds of the risk tiers."""

    metrics: dict[str, float]
    thresholds: dict[str, float]


def evaluate(settings: Settings, holdout: Examples, scores: Scores) -> Report:
    """Judge the scores of the holdout, overall and by fraud scenario."""
    thresholds = choose_thresholds(settings, holdout, scores)
    metrics = {
        "auc_roc": float(roc_auc_score(holdout.is_fraud, scores)),
        "average_precision": float(average_precision_score(holdout.is_fraud, scores)),
        f"card_precision_at_{CARDS_A_DAY}": card_precision(holdout, scores),
        "brier": float(brier_score_loss(holdout.is_fraud, scores)),
        "calibration_error": calibration_error(holdout.is_fraud, scores),
        "base_rate": float(holdout.is_fraud.mean()),
        "cost_per_1000": 1000 * cost(holdout, scores, thresholds["high"], settings.training_review_cost) / len(holdout),
        "cost_per_1000_without": 1000 * float(holdout.amount[holdout.is_fraud].sum()) / len(holdout),
    }
    for tier, threshold in thresholds.items():
        metrics |= _at(threshold, tier, holdout.is_fraud, scores)
    for scenario in sorted(set(holdout.fraud_type[holdout.is_fraud]) - {""}):
        own = ~holdout.is_fraud | (holdout.fraud_type == scenario)
        metrics |= {
            f"{scenario}.frauds": float((holdout.fraud_type[own & holdout.is_fraud] == scenario).sum()),
            f"{scenario}.auc_roc": float(roc_auc_score(holdout.is_fraud[own], scores[own])),
            f"{scenario}.average_precision": float(average_precision_score(holdout.is_fraud[own], scores[own])),
            f"{scenario}.recall_high": float((scores[own & holdout.is_fraud] >= thresholds["high"]).mean()),
            f"{scenario}.recall_medium": float((scores[own & holdout.is_fraud] >= thresholds["medium"]).mean()),
        }
    return Report(metrics, thresholds)


def _at(threshold: float, tier: str, is_fraud: NDArray[np.bool_], scores: Scores) -> dict[str, float]:
    flagged = scores >= threshold
    return {
        f"threshold_{tier}": threshold,
        f"recall_{tier}": float(flagged[is_fraud].mean()),
        f"precision_{tier}": float(is_fraud[flagged].mean()) if flagged.any() else 0.0,
        f"flagged_{tier}": float(flagged.mean()),
    }


def cost(holdout: Examples, scores: Scores, threshold: float, look_cost: float) -> float:
    """What acting at a threshold costs: a look at each flagged payment, and the amount of each fraud that was not."""
    flagged = scores >= threshold
    return float(look_cost * flagged.sum() + holdout.amount[holdout.is_fraud & ~flagged].sum())


def choose_thresholds(settings: Settings, holdout: Examples, scores: Scores) -> dict[str, float]:
    """The thresholds of least cost on the holdout.

    `high` is for what is expensive, an analyst's look (TRAINING_REVIEW_COST); `medium` for what is cheap, asking the
    cardholder to confirm (TRAINING_CHALLENGE_COST). A missed fraud costs its amount.
    """
    order = np.argsort(-scores, kind="stable")
    lost = np.where(holdout.is_fraud, holdout.amount, 0.0)[order]
    saved = np.cumsum(lost)
    # A threshold takes all payments of one score or none.
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    flagged = np.arange(1, len(order) + 1)

    def best(look_cost: float) -> float:
        gain = np.where(last_of_score, saved - look_cost * flagged, -np.inf)
        return float(scores[order][int(np.argmax(gain))])

    high = best(settings.training_review_cost)
    return {"medium": min(best(settings.training_challenge_cost), high), "high": high}


def card_precision(examples: Examples, scores: Scores, cards: int = CARDS_A_DAY) -> float:
    """Card precision@k: of the k cards with the highest scores of a day, the share with a fraud on it; mean over days.

    The measure of the Fraud Detection Handbook (chapter 4), since analysts look at so many cards a day, not at
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
    """Expected calibration error: how far scores are from the observed rate, in ten bins of as many payments each."""
    order = np.argsort(scores)
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return float(sum(len(p) * abs(scores[p].mean() - is_fraud[p].mean()) for p in parts) / len(order))


def plots(model: Any, holdout: Examples, scores: Scores, report: Report) -> dict[str, Figure]:
    """Figures by file name: precision and recall, calibration, importance, score by scenario."""
    return {
        "precision_recall.png": _precision_recall(holdout, scores, report),
        "calibration.png": _calibration(holdout, scores),
        "score_by_scenario.png": _by_scenario(holdout, scores, report),
    } | ({"importance.png": _importance(model)} if hasattr(model, "feature_importances_") else {})


def _precision_recall(holdout: Examples, scores: Scores, report: Report) -> Figure:
    precision, recall, _ = precision_recall_curve(holdout.is_fraud, scores)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.step(recall, precision, where="post")
    for tier in report.thresholds:
        point = report.metrics[f"recall_{tier}"], report.metrics[f"precision_{tier}"]
        axes.plot(*point, "o", label=f"{tier}: score ≥ {report.thresholds[tier]:.3f}")
    axes.axhline(report.metrics["base_rate"], linestyle=":", color="gray", label="flagging at random")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"average precision {report.metrics['average_precision']:.3f}")
    axes.legend()
    return figure


def _calibration(holdout: Examples, scores: Scores) -> Figure:
    observed, predicted = calibration_curve(holdout.is_fraud, scores, n_bins=BINS)
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], linestyle=":", color="gray", label="perfect")
    axes.plot(predicted, observed, "o-", label="model")
    axes.set(xlabel="mean score", ylabel="share of frauds", title="calibration")
    axes.legend()
    return figure


def _importance(model: Any) -> Figure:
    order = np.argsort(model.feature_importances_)[-20:]
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    axes.barh([FEATURES[i] for i in order], model.feature_importances_[order])
    axes.set(xlabel="importance (decrease in impurity)", title="the 20 most important features")
    return figure


def _by_scenario(holdout: Examples, scores: Scores, report: Report) -> Figure:
    names = ["", *sorted(set(holdout.fraud_type[holdout.is_fraud]) - {""})]
    groups = [scores[(holdout.fraud_type == n) & (holdout.is_fraud == bool(n))] for n in names]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.boxplot(groups, tick_labels=[n or "honest" for n in names], showfliers=False, whis=(5, 95))
    for tier, threshold in report.thresholds.items():
        axes.axhline(threshold, linestyle="--", linewidth=0.8, color="tab:red" if tier == "high" else "tab:orange")
    axes.set(ylabel="score", yscale="symlog", title="score by scenario (whiskers: 5 to 95 %)")
    axes.set_yscale("symlog", linthresh=0.001)
    axes.tick_params(axis="x", rotation=20)
    return figure

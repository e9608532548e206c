"""The plots of a training run: precision and recall, calibration, importance, score by scenario."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import matplotlib as mpl
import numpy as np
from sklearn.metrics import precision_recall_curve

from training.evaluate import Report, Scores, calibration_error, metric_name, reliability, scenarios
from training.examples import Examples

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def draw_plots(
    model: Any, features: Sequence[str], holdout: Examples, scores: Scores, report: Report
) -> dict[str, Figure]:
    """Figures by file name; the importance of the model's features only if the model has one."""
    return {
        "precision_recall.png": _precision_recall(holdout, scores, report),
        "calibration.png": _calibration(holdout, scores),
        "score_by_scenario.png": _by_scenario(holdout, scores, report),
    } | ({"importance.png": _importance(model, features)} if hasattr(model, "feature_importances_") else {})


def _precision_recall(holdout: Examples, scores: Scores, report: Report) -> Figure:
    precision, recall, _ = precision_recall_curve(holdout.is_fraud, scores)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.step(recall, precision, where="post")
    for tier, threshold in asdict(report.thresholds).items():
        point = report.metrics[f"recall_{tier}"], report.metrics[f"precision_{tier}"]
        axes.plot(*point, "o", label=f"{tier}: score ≥ {threshold:.3f}")
    axes.axhline(report.metrics["base_rate"], linestyle=":", color="gray", label="flagging at random")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"average precision {report.metrics['average_precision']:.3f}")
    axes.legend()
    return figure


def _calibration(holdout: Examples, scores: Scores) -> Figure:
    """The bins of the expected calibration error; logarithmic, since most payments have a score far below 1 %."""
    bins = reliability(holdout.is_fraud, scores)
    # A bin without frauds has no place on a logarithmic axis: it is drawn at the bottom.
    lowest = 0.1 / len(scores)
    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    axes.plot([lowest, 1], [lowest, 1], linestyle=":", color="gray", label="perfect")
    axes.plot(np.maximum(bins.mean_score, lowest), np.maximum(bins.rate, lowest), "o-", label="model")
    axes.set(xscale="log", yscale="log", xlabel="mean score", ylabel="share of frauds")
    axes.set_title(f"calibration: expected error {calibration_error(holdout.is_fraud, scores):.4f}")
    axes.legend()
    return figure


def _importance(model: Any, features: Sequence[str]) -> Figure:
    order = np.argsort(model.feature_importances_)[-20:]
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    axes.barh([features[i] for i in order], model.feature_importances_[order])
    axes.set(xlabel="importance (decrease in impurity)", title="the 20 most important features")
    return figure


def _by_scenario(holdout: Examples, scores: Scores, report: Report) -> Figure:
    found = scenarios(holdout)
    groups = [scores[~holdout.is_fraud], *(scores[holdout.is_fraud & (holdout.fraud_type == name)] for name in found)]
    labels = ["legitimate", *map(metric_name, found)]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.boxplot(groups, tick_labels=labels, showfliers=False, whis=(5, 95))
    for tier, threshold in asdict(report.thresholds).items():
        axes.axhline(threshold, linestyle="--", linewidth=0.8, color="tab:red" if tier == "high" else "tab:orange")
    axes.set(ylabel="score", yscale="symlog", title="score by scenario (whiskers: 5 to 95 %)")
    axes.set_yscale("symlog", linthresh=0.001)
    axes.tick_params(axis="x", rotation=20)
    return figure

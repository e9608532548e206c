"""The rules of promotion: the stage of a new model, and the reason in words, with the next step if it is refused.

Pure; upstream is compare.py, downstream registry.py, which applies the decision. Why the rules are these:
docs/decisions/0013-the-first-model.md.
"""

from dataclasses import dataclass
from math import floor
from typing import Literal

from training.compare import Comparison
from training.settings import AUTO, Settings

# What a model below TRAINING_MINIMUM_AUC needs before it is compared with what serves now. A handful of frauds proves
# nothing; an AUC near 0.5 means that it knows next to nothing of most frauds.
COMPARABLE_FRAUDS = 25
COMPARABLE_AUC = 0.60


@dataclass(frozen=True, slots=True)
class Decision:
    """The stage of a new version, and why."""

    stage: Literal["None", "Staging", "Production"]
    reason: str


def judge(settings: Settings, measured: Comparison, history_days: int) -> Decision:
    """Judge a new model by what it reached on the holdout, and by what serves now on the same holdout.

    Args:
        settings: TRAINING_MINIMUM_AUC is the minimum for Staging.
        measured: the new model, and what serves now.
        history_days: how many days of matured payments there are, of which it has learned from the last TRAINING_DAYS.
    """
    auc, minimum = measured.new.auc, settings.training_minimum_auc
    ours, theirs = measured.new.average_precision, measured.served.average_precision
    higher, better = is_higher(measured), is_better(measured)
    comparison = (
        f"average precision {ours:.4f} is {'better' if higher else 'no better'} than {measured.served_by}'s "
        f"{theirs:.4f} on the same holdout"
    )
    if measured.note:
        comparison += f" ({measured.note})"
    # Compared in the four digits that are shown; a smaller difference does not count.
    if round(auc, 4) >= minimum:
        reached = f"AUC {auc:.4f} reaches TRAINING_MINIMUM_AUC ({minimum:g})"
        if better:
            return Decision("Production", f"{reached}, and {comparison}, by more than chance{_interval(measured)}")
        if higher:
            comparison += f", but not by more than chance{_interval(measured)}"
        return Decision("Staging", f"{reached}, but {comparison}: stays in Staging. {_improve(settings, history_days)}")

    missed = f"AUC {auc:.4f} is below TRAINING_MINIMUM_AUC ({minimum:g})"
    obstacle = _obstacle(measured)
    if obstacle is None:
        return Decision("Production", f"{missed}, but {comparison}, by more than chance{_interval(measured)}")
    return Decision(
        "None",
        f"{missed}, and {comparison}{obstacle}: not promoted. "
        f"{_accept(auc) if _would_serve(measured) else _improve(settings, history_days)}",
    )


def is_higher(measured: Comparison) -> bool:
    """Whether the new model's average precision is higher, in the four digits that are shown."""
    return round(measured.new.average_precision, 4) > round(measured.served.average_precision, 4)


def is_better(measured: Comparison) -> bool:
    """Whether it is higher by more than chance: the 95 % interval of the difference is above 0."""
    return is_higher(measured) and measured.average_precision_gain.low > 0


def _would_serve(measured: Comparison) -> bool:
    """Whether a lower TRAINING_MINIMUM_AUC, which can be no lower than 0.5, lets the model serve."""
    return is_better(measured) and measured.new.auc >= 0.5


def _obstacle(measured: Comparison) -> str | None:
    """Why a model below TRAINING_MINIMUM_AUC may not serve, as the end of a sentence; None if it may."""
    if not is_higher(measured):
        return ""
    if measured.frauds < COMPARABLE_FRAUDS:
        return f", but the holdout has only {measured.frauds} frauds and {COMPARABLE_FRAUDS} are needed to be sure"
    if measured.new.auc < COMPARABLE_AUC:
        return f", but a model with an AUC below {COMPARABLE_AUC:.2f} does not serve for that alone"
    if not is_better(measured):
        return f", but not by more than chance{_interval(measured)}"
    if measured.auc_gain.high < 0:
        return f", but {measured.served_by}'s AUC of {measured.served.auc:.4f} is higher by more than chance"
    return None


def _interval(measured: Comparison) -> str:
    gain = measured.average_precision_gain
    return f" (95 % interval of the difference {gain.low:.4f} to {gain.high:.4f}, {measured.frauds} frauds)"


def _accept(auc: float) -> str:
    """The setting that lets a model of this AUC serve: the next lower hundredth."""
    return (
        f"To let it serve: TRAINING_MINIMUM_AUC={floor(round(100 * auc, 2)) / 100:.2f} make ml-train, "
        "or the same setting in .env for every run"
    )


def _improve(settings: Settings, history_days: int) -> str:
    """What may lead to a better model."""
    one_model = settings.training_model != AUTO
    model = f" or the best of several models (TRAINING_MODEL={AUTO} make ml-train)" if one_model else ""
    if history_days > settings.training_days:
        longer = min(2 * settings.training_days, history_days)
        return f"More history (TRAINING_DAYS={longer} make ml-train){model} may be better; in .env for every run"
    everywhere = "; in .env for every run" if one_model else ""
    return f"More labelled payments, when they have matured{model} may be better{everywhere}"

"""Which model is trained, and how its scores are corrected: what the last days of the training period say.

Upstream is the training period alone, so the holdout has no say; downstream is train.py, which trains the chosen model
on all of it. Why it is done like this: docs/decisions/0017-the-model-is-chosen-by-validation.md.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from training.calibration import RECALIBRATION_FRAUDS, Correction, prior_correction, recalibration
from training.compare import Scores, Serving, Skill, compare, skill_of
from training.estimators import Candidate, fit, scores
from training.examples import Examples
from training.gold import print_progress
from training.settings import AUTO, Settings
from training.validation import last_days, thin_out

# Trees that learn less from single frauds, for data whose labels are often wrong.
COARSE = {"max_depth": 14, "min_samples_leaf": 20}
# What TRAINING_MODEL=auto chooses from: the settings of each model that matter, the usual ones first.
SEARCH = (
    (
        Candidate("random_forest"),
        Candidate("random_forest", {"max_features": 0.25}),
        Candidate("random_forest", COARSE),
    ),
    (Candidate("extra_trees"), Candidate("extra_trees", COARSE)),
    (
        Candidate("hist_gradient_boosting"),
        Candidate("hist_gradient_boosting", {"max_features": 1.0}),
        Candidate("hist_gradient_boosting", {"max_leaf_nodes": 15}),
    ),
)
# So many legitimate payments for each fraud are enough to see which settings of one model are weak.
SCREENING_LEGITIMATE_PER_FRAUD = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate that learned from the training period without its last days, and how well it ranks those.

    Attributes:
        candidate: what was tried.
        examples: how many it learned from.
        skill: on the last days.
        seconds: how long it took to learn.
        scores: of the last days, not corrected.
    """

    candidate: Candidate
    examples: int
    skill: Skill
    seconds: float
    scores: Scores = field(repr=False)

    def __str__(self) -> str:
        return (
            f"{self.candidate}: average precision {self.skill.average_precision:.4f}, AUC {self.skill.auc:.4f} "
            f"({self.examples:,} examples, {self.seconds:.0f} s)"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The model to train, the correction of its scores, why it is this one, and all that was tried."""

    candidate: Candidate
    correction: Correction
    reason: str
    trials: tuple[Trial, ...] = ()

    def table(self) -> dict[str, list[Any]]:
        """The trials as columns, in their order."""
        return {
            "model": [trial.candidate.name for trial in self.trials],
            "settings": [trial.candidate.settings for trial in self.trials],
            "examples": [trial.examples for trial in self.trials],
            "average_precision": [trial.skill.average_precision for trial in self.trials],
            "auc_roc": [trial.skill.auc for trial in self.trials],
            "seconds": [round(trial.seconds, 1) for trial in self.trials],
            "chosen": [trial.candidate == self.candidate for trial in self.trials],
        }


def choose(settings: Settings, learned: Examples, features: Sequence[str]) -> Choice:
    """Choose the model, and find the correction of its scores, on the last days of what is learned.

    The same fits serve both, so a model that TRAINING_MODEL names takes one, and `auto` one of each model and a few on
    fewer payments. With too few frauds for either, it is the first candidate with the prior correction.
    """
    search = SEARCH if settings.training_model == AUTO else ((Candidate(settings.training_model),),)
    prior = prior_correction(settings.training_fraud_weight)
    earlier, last = last_days(learned)
    frauds = int(min(earlier.is_fraud.sum(), last.is_fraud.sum()))
    if frauds < RECALIBRATION_FRAUDS:
        first = search[0][0]
        return Choice(
            first,
            prior,
            f"{first}: too few frauds to try models on the last days of the training period ({frauds} on one side of "
            f"them, {RECALIBRATION_FRAUDS} are needed)",
        )
    screened, finalists = _screen(settings, search, earlier, last, features)
    chosen, reason = _best(finalists, last)
    correction = recalibration(prior, chosen.scores, last.is_fraud, last.weight)
    return Choice(chosen.candidate, correction, reason, (*screened, *finalists))


def _screen(
    settings: Settings,
    search: Sequence[Sequence[Candidate]],
    earlier: Examples,
    last: Examples,
    features: Sequence[str],
) -> tuple[list[Trial], list[Trial]]:
    """Try the settings of each model on few legitimate payments, and the best of them on all.

    Returns:
        The trials of the screening, and those of the best settings, a single one for each model.
    """
    fewer = thin_out(earlier, SCREENING_LEGITIMATE_PER_FRAUD, settings.training_seed)
    screened: list[Trial] = []
    finalists: list[Trial] = []
    for candidates in search:
        best = candidates[0]
        if len(candidates) > 1:
            trials = [_try(settings, candidate, fewer, last, features) for candidate in candidates]
            screened += trials
            best = max(trials, key=lambda trial: trial.skill.average_precision).candidate
        finalists.append(_try(settings, best, earlier, last, features))
    return screened, finalists


def _try(settings: Settings, candidate: Candidate, earlier: Examples, last: Examples, features: Sequence[str]) -> Trial:
    started = time.monotonic()
    model = fit(settings, candidate, earlier, features)
    seconds = time.monotonic() - started
    found = scores(model, last, features)
    trial = Trial(candidate, len(earlier), skill_of(last, found), seconds, found)
    print_progress(f"  tried {trial}")
    return trial


def _best(trials: Sequence[Trial], last: Examples) -> tuple[Trial, str]:
    """The trial with the highest average precision, the first of equal ones, and in words by how much it is better."""
    best = max(trials, key=lambda trial: trial.skill.average_precision)
    reason = f"{best.candidate}: the highest average precision on the last days of the training period"
    for other in trials:
        if other is not best:
            gain = compare(last, best.scores, Serving(str(other.candidate), other.scores)).average_precision_gain
            reason += f"; better than {other.candidate} by {gain.low:.4f} to {gain.high:.4f} (95 % interval)"
    return best, reason

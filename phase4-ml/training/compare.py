"""A new model beside what serves now: how well both rank the same holdout, and how much of the difference is chance.

Upstream are the scores of both; downstream is promotion.py, which judges.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.examples import Examples

Scores = NDArray[np.float64]

RESAMPLES = 1000
# Of a two-sided interval of 95 %.
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Skill:
    """How well scores rank payments, each from 0 to 1."""

    auc: float
    average_precision: float


@dataclass(frozen=True, slots=True)
class Interval:
    """Between these two the difference of new and served lies with a probability of 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Serving:
    """What scores payments now.

    Attributes:
        name: Production or rules-1.
        scores: those that it gives to the holdout.
        note: why it serves.
    """

    name: str
    scores: Scores
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A new model and what serves now on the same holdout, which has so many frauds."""

    new: Skill
    served: Skill
    auc_gain: Interval
    average_precision_gain: Interval
    frauds: int
    served_by: str
    note: str = ""


def compare(holdout: Examples, scores: Scores, serving: Serving, seed: int = 0) -> Comparison:
    """Compare a model's scores of the holdout with those of what serves now.

    The intervals are those of a paired bootstrap: the holdout is drawn again and again, both are measured on each draw.
    What is drawn are cards' days, since the frauds on one card on one day are not independent of each other. A payment
    counts for as many as it represents.
    """
    ours, theirs = _Ranking(holdout, scores), _Ranking(holdout, serving.scores)
    group = _card_days(holdout)
    groups = int(group.max()) + 1
    random = np.random.default_rng(seed)
    gains = np.empty((RESAMPLES, 2))
    for i in range(RESAMPLES):
        drawn = np.bincount(random.integers(0, groups, groups), minlength=groups)[group] * holdout.weight
        one, other = ours.skill(drawn), theirs.skill(drawn)
        gains[i] = one.auc - other.auc, one.average_precision - other.average_precision
    lows, highs = np.percentile(gains, PERCENTILES, axis=0)
    return Comparison(
        new=ours.skill(holdout.weight),
        served=theirs.skill(holdout.weight),
        auc_gain=Interval(float(lows[0]), float(highs[0])),
        average_precision_gain=Interval(float(lows[1]), float(highs[1])),
        frauds=int(holdout.is_fraud.sum()),
        served_by=serving.name,
        note=serving.note,
    )


def skill_of(examples: Examples, scores: Scores) -> Skill:
    """How well scores rank payments, each of which counts for as many as it represents."""
    return _Ranking(examples, scores).skill(examples.weight)


class _Ranking:
    """Payments in the order of their scores, to be measured many times with other weights.

    scikit-learn's metrics sort at every call, which would take more than a minute for a holdout of 280,000 payments.
    """

    def __init__(self, examples: Examples, scores: Scores) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._is_fraud = examples.is_fraud[self._order]
        # Payments of one score have one rank.
        self._last_of_score = np.flatnonzero(np.append(np.diff(scores[self._order]) != 0, True))

    def skill(self, weight: NDArray[np.float64]) -> Skill:
        """The skill with weighted payments; that of chance if only one kind of payment has a weight."""
        ranked = weight[self._order]
        found = np.cumsum(np.where(self._is_fraud, ranked, 0.0))[self._last_of_score]
        flagged = np.cumsum(ranked)[self._last_of_score]
        frauds, legitimate = found[-1], flagged[-1] - found[-1]
        if not frauds or not legitimate:
            return Skill(0.5, 0.0)
        newly_found = np.diff(found, prepend=0.0)
        newly_wrong = np.diff(flagged - found, prepend=0.0)
        precision = found / np.maximum(flagged, np.finfo(float).tiny)
        return Skill(
            auc=float((newly_wrong * (found - newly_found / 2)).sum() / (frauds * legitimate)),
            average_precision=float((newly_found * precision).sum() / frauds),
        )


def _card_days(examples: Examples) -> NDArray[np.int64]:
    """For each payment a number, equal for payments of one user on one day."""
    _, user = np.unique(examples.user_id.astype(str), return_inverse=True)
    day = examples.event_time.astype("datetime64[D]").astype(np.int64)
    day -= day.min()
    _, group = np.unique(user * (day.max() + 1) + day, return_inverse=True)
    return group

"""What the end of the training period says of a model that has not seen it: how to correct its scores.

Upstream is the training period alone, so the holdout has no say; downstream is train.py.
"""

from collections.abc import Sequence

import numpy as np

from training.calibration import RECALIBRATION_FRAUDS, Correction, prior_correction, recalibration
from training.estimators import fit, scores
from training.examples import Examples
from training.settings import Settings

WEEK = np.timedelta64(7, "D")


def find_correction(settings: Settings, learned: Examples, features: Sequence[str]) -> Correction:
    """The correction of the model of the settings: a recalibration if there are enough frauds for one.

    It fits the same kind of model on what came before the last days, which takes nearly as long as the model itself.
    """
    prior = prior_correction(settings.training_fraud_weight)
    earlier, last = last_days(learned)
    if min(earlier.is_fraud.sum(), last.is_fraud.sum()) < RECALIBRATION_FRAUDS:
        return prior
    model = fit(settings, earlier, features)
    return recalibration(prior, scores(model, last, features), last.is_fraud, last.weight)


def last_days(learned: Examples) -> tuple[Examples, Examples]:
    """The training period before its last week, or before its last third if that is shorter, and the rest.

    There is no gap between the two, and both have the labels that are known when the model is made: the correction of
    the earlier model is used for the whole one, so they must resemble each other.
    """
    start, end = learned.event_time.min(), learned.event_time.max()
    before = learned.event_time < end - min(WEEK, (end - start) / 3)
    return learned.where(before), learned.where(~before)

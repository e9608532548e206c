"""What the last week of the training period says of a model that has not seen it: how to correct its scores.

Upstream is the training period alone, so the holdout has no say; downstream is train.py.
"""

from training.calibration import RECALIBRATION_FRAUDS, Correction, prior_correction, recalibration
from training.estimators import fit, scores
from training.examples import Examples, validation_parts
from training.settings import Settings


def find_correction(settings: Settings, learned: Examples) -> Correction:
    """The correction of the model of the settings: a recalibration if the week has enough frauds for one.

    It fits the same kind of model on what came before that week, which takes about half as long as the model itself.
    """
    prior = prior_correction(settings.training_fraud_weight)
    earlier, week = validation_parts(learned)
    if min(earlier.is_fraud.sum(), week.is_fraud.sum()) < RECALIBRATION_FRAUDS:
        return prior
    return recalibration(prior, scores(fit(settings, earlier), week), week.is_fraud, week.weight)

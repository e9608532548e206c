"""From a classifier's score to a probability: the weight of frauds is undone, and what is still wrong is corrected.

Why both, and what they are fitted on: docs/decisions/0016-calibrated-probabilities.md. export.py has the same formula
as ONNX. Only scikit-learn and NumPy are imported, so a registered model can be loaded elsewhere.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

# A forest whose trees agree answers 0 or 1, which have no logarithm. In ONNX's 32 bits the distance of a score from 1
# is no more exact than a hundredth of this.
SMALLEST = 1e-5
# With fewer frauds than this the two numbers of a recalibration would be chance.
RECALIBRATION_FRAUDS = 50


@dataclass(frozen=True, slots=True)
class Correction:
    """A probability's log-odds are `slope` times those of the score, plus `offset`; so the order stays the same."""

    slope: float
    offset: float


def prior_correction(fraud_weight: float) -> Correction:
    """Undo exactly that frauds weigh more in training: the odds are divided by that weight.

    Legitimate payments that were left out need none, since each of the others has the weight of those it represents.
    (Elkan 2001, The Foundations of Cost-Sensitive Learning, theorem 2.)
    """
    return Correction(1.0, -float(np.log(fraud_weight)))


def recalibration(
    prior: Correction, scores: NDArray[np.float64], is_fraud: NDArray[np.bool_], weight: NDArray[np.float64]
) -> Correction:
    """Platt's method on log-odds, on the last days of the training period, which the model has not seen.

    Returns the prior correction where there are too few frauds, or where the scores don't rank the frauds.

    Args:
        prior: the prior correction.
        scores: the classifier's, not corrected.
        is_fraud: the labels.
        weight: how many payments each represents.
    """
    if is_fraud.sum() < RECALIBRATION_FRAUDS or is_fraud.all():
        return prior
    fitted = LogisticRegression(C=np.inf).fit(log_odds(scores).reshape(-1, 1), is_fraud, sample_weight=weight)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Correction(slope, offset) if slope > 0 else prior


def log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of p / (1 - p), for p between SMALLEST and 1 - SMALLEST."""
    exact = scores.astype(float)
    return np.log(np.maximum(exact, SMALLEST)) - np.log(np.maximum(1 - exact, SMALLEST))


class CalibratedClassifier(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probabilities are corrected."""

    def __init__(self, classifier: Any, slope: float = 1.0, offset: float = 0.0) -> None:
        self.classifier = classifier
        self.slope = slope
        self.offset = offset

    @classmethod
    def of(cls, classifier: Any, correction: Correction) -> Self:
        """The classifier with this correction."""
        return cls(classifier, correction.slope, correction.offset)

    @property
    def correction(self) -> Correction:
        """What is corrected."""
        return Correction(self.slope, self.offset)

    @property
    def classes_(self) -> NDArray[Any]:
        """The classifier's two classes, legitimate first."""
        return self.classifier.classes_

    @property
    def n_features_in_(self) -> int:
        """How many features it takes."""
        return self.classifier.n_features_in_

    def predict_proba(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of each class, shape (n, 2)."""
        odds = self.slope * log_odds(self.classifier.predict_proba(matrix)[:, 1]) + self.offset
        fraud = 1 / (1 + np.exp(-odds))
        return np.column_stack([1 - fraud, fraud])

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """The more probable class of each row."""
        return self.classes_[(self.predict_proba(matrix)[:, 1] >= 0.5).astype(int)]

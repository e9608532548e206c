"""The models that can be trained, by the name in TRAINING_MODEL: those of scikit-learn that ONNX supports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from features import FEATURES
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from training.examples import Examples, select_features
from training.settings import Settings

TREES = {"n_estimators": 100, "max_depth": 20, "min_samples_leaf": 5}
# Without early stopping, which sets a tenth of the examples aside at random, with frauds of one campaign on both sides.
BOOSTING = {"max_iter": 200, "learning_rate": 0.05, "max_features": 0.3, "early_stopping": False}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be trained.

    Attributes:
        name: that of TRAINING_MODEL.
        options: those that differ from the model's usual ones, by the names of scikit-learn.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> str:
        """The options in words."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items()) or "usual"

    def __str__(self) -> str:
        return f"{self.name} ({self.settings})" if self.options else self.name


def make_model(candidate: Candidate, seed: int, jobs: int) -> Any:
    """An untrained model."""
    options = candidate.options
    match candidate.name:
        case "random_forest":
            return RandomForestClassifier(
                **{**TREES, "max_features": "sqrt", **options}, n_jobs=jobs, random_state=seed
            )
        case "extra_trees":
            return ExtraTreesClassifier(**{**TREES, "max_features": 0.3, **options}, n_jobs=jobs, random_state=seed)
        case "hist_gradient_boosting":
            return HistGradientBoostingClassifier(**{**BOOSTING, **options}, random_state=seed)
        case "logistic_regression":
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed, **options))
        case "decision_tree":
            return DecisionTreeClassifier(**{"max_depth": 8, "min_samples_leaf": 20, **options}, random_state=seed)
    raise ValueError(candidate.name)


def fit(settings: Settings, candidate: Candidate, train: Examples, features: Sequence[str] = FEATURES) -> Any:
    """Train a model on these features, each example with the weight of the payments it represents."""
    model = make_model(candidate, settings.training_seed, settings.training_jobs)
    weight = np.where(train.is_fraud, train.weight * settings.training_fraud_weight, train.weight)
    # Normalised, so that leaves of trees and penalties are as large as with unweighted examples.
    weight /= weight.mean()
    matrix = select_features(train.matrix, features)
    if hasattr(model, "steps"):
        return model.fit(matrix, train.is_fraud, **{f"{model.steps[-1][0]}__sample_weight": weight})
    return model.fit(matrix, train.is_fraud, sample_weight=weight)


def scores(model: Any, examples: Examples, features: Sequence[str] = FEATURES) -> NDArray[np.float64]:
    """The probability of fraud of each example, shape (n,), by a model of these features."""
    return model.predict_proba(select_features(examples.matrix, features))[:, 1]

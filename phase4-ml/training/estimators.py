"""The models that can be trained, by the name in TRAINING_MODEL: those of scikit-learn that ONNX supports."""

from collections.abc import Sequence
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

TREES = {"n_estimators": 100, "max_depth": 14, "min_samples_leaf": 20}


def make_model(name: str, seed: int, jobs: int) -> Any:
    """An untrained model."""
    match name:
        case "random_forest":
            return RandomForestClassifier(**TREES, max_features="sqrt", n_jobs=jobs, random_state=seed)
        case "extra_trees":
            return ExtraTreesClassifier(**TREES, n_jobs=jobs, random_state=seed)
        case "hist_gradient_boosting":
            return HistGradientBoostingClassifier(max_iter=200, learning_rate=0.05, random_state=seed)
        case "logistic_regression":
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
        case "decision_tree":
            return DecisionTreeClassifier(max_depth=8, min_samples_leaf=20, random_state=seed)
    raise ValueError(name)


def fit(settings: Settings, train: Examples, features: Sequence[str] = FEATURES) -> Any:
    """Train the model of the settings on these features, each example with the weight of the payments it represents."""
    model = make_model(settings.training_model, settings.training_seed, settings.training_jobs)
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

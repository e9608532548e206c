"""How much each feature moved a score, by SHAP values (Lundberg and others 2020, From local explanations to global
understanding with explainable AI for trees): the mean of a feature's contribution over all orders of the features.

A feature that is not known yet has the values of the model's background, some legitimate payments. docs/decisions/
0018-reasons-by-treeshap.md says why, and how a contribution to the raw output becomes one to the probability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shap
from numpy.typing import NDArray
from serving.reasons import Reason, largest

from explainer.graph import Graph, Linear

# A score and its explanation come from the same trees: more than the rounding of sums in 32 bits is a fault. The
# corrected probability may differ by 5e-5 (training/export.py), the stored one is rounded.
TOLERANCE = 1e-3
# Below such a change of the raw output, the slope of the tangent is more exact than that of the secant.
SMALL = 1e-9


class UnexplainedError(Exception):
    """Why there are no reasons for a score, and never will be."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`expected` and the sum of all effects is the probability."""

    expected: float
    effects: dict[str, float]
    reasons: list[Reason]


class Attribution:
    """Explains the scores of one model."""

    def __init__(self, graph: Graph, features: Sequence[str], background: NDArray[np.float32]) -> None:
        """Prepare shap.

        Args:
            graph: the model.
            features: the names of its inputs, in order.
            background: payments to compare with, shape (n, len(features)).
        """
        self._graph = graph
        self._features = tuple(features)
        self._trees: shap.TreeExplainer | None = None
        if isinstance(graph.classifier, Linear):
            self._mean = background.astype(float).mean(axis=0)
            self._expected = float(graph.classifier.coefficients @ self._mean) + graph.classifier.intercept
        elif graph.classifier.trees:
            self._trees = shap.TreeExplainer(
                {"trees": graph.classifier.trees, "base_offset": graph.classifier.base},
                data=background.astype(float),
                feature_perturbation="interventional",
            )
            self._expected = float(np.ravel(self._trees.expected_value)[0])
        else:
            self._expected = graph.classifier.base

    def explain(self, values: Mapping[str, float | None], score: float) -> Explanation:
        """The effect of each feature of a payment on its score.

        Args:
            values: by feature; of those that the model does not take, nothing is read.
            score: the `fraud_probability` that the scorer answered.

        Raises:
            UnexplainedError: a feature is missing, or the effects don't add up to the score.
        """
        if missing := [name for name in self._features if name not in values]:
            raise UnexplainedError(f"the prediction has no {', '.join(missing)}")
        # Through 32 bits, in which the model compares: 0.1 from JSON is less than the 0.1 that the model has seen.
        given = [np.nan if (value := values[name]) is None else value for name in self._features]
        vector = np.array(given, dtype=np.float32).astype(float)
        contributions = self._contributions(vector)
        raw = self._expected + float(contributions.sum())
        expected, probability = self._graph.probability(self._expected), self._graph.probability(raw)
        if not abs(probability - score) <= TOLERANCE:
            raise UnexplainedError(f"the effects add up to {probability:.6f}, not to the score {score:.6f}")
        effects = dict(zip(self._features, (contributions * self._slope(raw)).tolist(), strict=True))
        return Explanation(expected, effects, largest(values, effects))

    def _contributions(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """The contribution of each feature to the raw output."""
        if isinstance(self._graph.classifier, Linear):
            return self._graph.classifier.coefficients * (vector - self._mean)
        if self._trees is None:
            return np.zeros(len(self._features))
        return self._trees.shap_values(vector.reshape(1, -1), check_additivity=False).reshape(-1)

    def _slope(self, raw: float) -> float:
        """How much of a probability a unit of the raw output is, between the expected output and this one."""
        low, high = self._expected, raw
        if abs(high - low) < SMALL:
            low, high = low - SMALL, low + SMALL
        return (self._graph.probability(high) - self._graph.probability(low)) / (high - low)

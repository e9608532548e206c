"""What payments looked like when a model was made: the distributions of its score and of every feature, and a sample.

Downstream are the drift monitor, which compares live payments with the distributions, and the explainer, which compares
each payment with the sample.
"""

from typing import Any

import numpy as np
from features import FEATURES
from numpy.typing import NDArray

from training.examples import Examples

BINS = 10
# As many as shap takes; the time of an explanation is in proportion. Of a forest, another sample changes the largest
# effect by some 6 %.
BACKGROUND_PAYMENTS = 100


def reference(examples: Examples, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The distributions over the holdout: the newest payments, from which the model has not learned."""
    return {
        "score": distribution(scores, examples.weight),
        "features": {
            name: distribution(examples.matrix[:, position].astype(float), examples.weight)
            for position, name in enumerate(FEATURES)
        },
    }


def background(examples: Examples, seed: int) -> NDArray[np.float32]:
    """Some legitimate payments, as they occur: each drawn with the weight of those that it represents.

    Returns:
        their features, shape (n, len(FEATURES)).
    """
    legitimate = examples.where(~examples.is_fraud)
    drawn = np.random.default_rng(seed).choice(
        len(legitimate),
        size=min(BACKGROUND_PAYMENTS, len(legitimate)),
        replace=False,
        p=legitimate.weight / legitimate.weight.sum(),
    )
    return legitimate.matrix[drawn]


def distribution(values: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, list[float]]:
    """Edges between up to ten bins of about the same weight, and the share of the payments in each bin.

    If many payments have the same value, there are fewer bins, of unequal weight. An edge is slightly above the value
    that it comes from, so that rounding does not move a common value across it.
    """
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(cumulative, np.arange(1, BINS) / BINS)
    inner = np.unique(values[order][np.minimum(at, len(values) - 1)])
    edges = inner + np.abs(inner) * 1e-6 + 1e-9
    counts = np.bincount(np.searchsorted(edges, values), weights=weights, minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": (counts / weights.sum()).tolist()}

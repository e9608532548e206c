"""What payments looked like when a model was made: the distributions of its score and of every feature.

Downstream is the drift monitor, which compares live payments with them.
"""

from typing import Any

import numpy as np
from features import FEATURES
from numpy.typing import NDArray

from training.examples import Examples

BINS = 10


def reference(examples: Examples, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The distributions over the holdout: the newest payments, from which the model has not learned."""
    return {
        "score": distribution(scores, examples.weight),
        "features": {
            name: distribution(examples.matrix[:, position].astype(float), examples.weight)
            for position, name in enumerate(FEATURES)
        },
    }


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

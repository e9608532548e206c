"""What payments looked like when a model was made: the distribution of its score and of every feature, so that somebody
who watches live payments can tell how far they have moved since."""

from typing import Any

import numpy as np
from features import FEATURES
from numpy.typing import NDArray

from training.data import Examples

BINS = 10


def reference(examples: Examples, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The distributions over the holdout: the newest payments, which the model has not learned."""
    return {
        "score": distribution(scores, examples.weight),
        "features": {
            name: distribution(examples.matrix[:, position].astype(float), examples.weight)
            for position, name in enumerate(FEATURES)
        },
    }


def distribution(values: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, list[float]]:
    """Edges between up to ten bins of about the same weight, and the share of the payments in each bin.

    Values that many payments have in common make bins fewer, and of unequal weight. An edge lies a hair above the
    value that made it, so that rounding does not carry a common value over it.
    """
    order = np.argsort(values, kind="stable")
    heaped = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(heaped, np.arange(1, BINS) / BINS)
    inner = np.unique(values[order][np.minimum(at, len(values) - 1)])
    edges = inner + np.abs(inner) * 1e-6 + 1e-9
    counts = np.bincount(np.searchsorted(edges, values), weights=weights, minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": (counts / weights.sum()).tolist()}

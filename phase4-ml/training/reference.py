"""What payments looked like when a model was made: the distributions of its score and of every feature, and a sample.

Downstream are the drift monitor, which compares live payments with the distributions, and the explainer, which compares
each payment with the sample.
"""

from typing import Any

import numpy as np
from features import FEATURES
from numpy.typing import NDArray

from training.examples import Examples

# Between the bins: ten of about the same weight, the outermost ones divided, since frauds are in the tails.
LEVELS = (0.01, 0.05, *(position / 10 for position in range(1, 10)), 0.95, 0.99)
# An hour with fewer examples has no shares of its own: they would be mostly chance.
SMALLEST_HOUR = 200
# As many as shap takes; the time of an explanation is in proportion. Of a forest, another sample changes the largest
# effect by some 6 %.
BACKGROUND_PAYMENTS = 100


def reference(examples: Examples, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The distributions over the holdout: the newest payments, from which the model has not learned."""
    hours = hour_of_week(examples.event_time)
    return {
        "score": distribution(scores, examples.weight, hours),
        "features": {
            name: distribution(examples.matrix[:, position].astype(float), examples.weight, hours)
            for position, name in enumerate(FEATURES)
        },
    }


def hour_of_week(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """The hours from Monday 00:00 UTC to each time, 0 to 167."""
    hours = times.astype("datetime64[h]").astype(np.int64)
    # 1970 began on a Thursday.
    return (hours + 3 * 24) % (7 * 24)


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


def distribution(values: NDArray[np.float64], weights: NDArray[np.float64], hours: NDArray[np.int64]) -> dict[str, Any]:
    """Edges between up to 14 bins, and the share of the payments in each bin: of all, and of the hours.

    If many payments have the same value, there are fewer bins. An edge is slightly above the value that it comes from,
    so that rounding does not move a common value across it.

    Args:
        hours: the hour of the week of each payment.

    Returns:
        `edges`, `shares`, and `by_hour_of_week` and `by_hour_of_day`: shares by the number of the hour, for hours with
        enough examples.
    """
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(cumulative, LEVELS)
    inner = np.unique(values[order][np.minimum(at, len(values) - 1)])
    edges = inner + np.abs(inner) * 1e-6 + 1e-9
    bins = np.searchsorted(edges, values)
    everything = np.ones(len(values), dtype=bool)
    return {
        "edges": edges.tolist(),
        "shares": _shares(bins, weights, len(edges) + 1, everything),
        "by_hour_of_week": _by_hour(bins, weights, len(edges) + 1, hours),
        "by_hour_of_day": _by_hour(bins, weights, len(edges) + 1, hours % 24),
    }


def _by_hour(
    bins: NDArray[np.int64], weights: NDArray[np.float64], count: int, hours: NDArray[np.int64]
) -> dict[str, list[float]]:
    found, examples = np.unique(hours, return_counts=True)
    # Keys of JSON are texts.
    return {str(hour): _shares(bins, weights, count, hours == hour) for hour in found[examples >= SMALLEST_HOUR]}


def _shares(
    bins: NDArray[np.int64], weights: NDArray[np.float64], count: int, chosen: NDArray[np.bool_]
) -> list[float]:
    counts = np.bincount(bins[chosen], weights=weights[chosen], minlength=count)
    # In 168 hours, more digits only take space.
    return np.round(counts / weights[chosen].sum(), 6).tolist()

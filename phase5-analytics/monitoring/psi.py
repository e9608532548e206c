"""The population stability index: one number for how far a distribution has moved from another. Pure functions.

Below 0.1 little has moved, above 0.25 much has: a rule of thumb of credit scoring.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

# An empty bin would make the index infinite.
SMALLEST_SHARE = 1e-4


def shares(values: Iterable[float], edges: Sequence[float]) -> list[float]:
    """The share of the values in each bin; the first bin is all up to the first edge, the last all above the last."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    total = sum(counts)
    return [count / total for count in counts]


def index(expected: Sequence[float], found: Sequence[float]) -> float:
    """How far the found shares have moved from the expected ones; 0 is not at all."""
    pairs = [(max(e, SMALLEST_SHARE), max(f, SMALLEST_SHARE)) for e, f in zip(expected, found, strict=True)]
    return sum((f - e) * math.log(f / e) for e, f in pairs)

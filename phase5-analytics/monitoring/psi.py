"""The population stability index: one number for how far a distribution has moved from another. Pure functions.

By a rule of thumb of credit scoring, below 0.1 the distribution is stable, and above 0.25 it has changed.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

# An empty bin would make the index infinite.
SMALLEST_SHARE = 1e-4


def shares(values: Iterable[float], edges: Sequence[float]) -> list[float]:
    """The share of the values (at least one) in each bin.

    A bin includes its upper edge; the last one is above the last edge.
    """
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    total = sum(counts)
    return [count / total for count in counts]


def index(expected: Sequence[float], found: Sequence[float]) -> float:
    """The index of found against expected shares, bin by bin; 0 means that they are equal."""
    pairs = [(max(e, SMALLEST_SHARE), max(f, SMALLEST_SHARE)) for e, f in zip(expected, found, strict=True)]
    return sum((f - e) * math.log(f / e) for e, f in pairs)

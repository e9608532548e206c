"""The comparison of live payments with a model's holdout. Pure functions.

An hour of payments is compared with the same hours of the holdout: a Sunday night differs from an average week without
any drift.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from monitoring.psi import index, shares
from monitoring.sources import Distribution, Reference, Scored

# A tail with fewer expected payments doubles and triples by chance.
SMALLEST_TAIL = 10
# The bin above all values of the holdout should be empty; a share is compared with at least this one.
SMALLEST_TAIL_SHARE = 0.005


@dataclass(frozen=True)
class Drift:
    """How far a score or a feature has moved.

    Attributes:
        index: the population stability index; None without a number to compare.
        tails: the share in the "low" and the "high" outermost bin, divided by the expected share.
        missing: the share of the payments without a number.
    """

    index: float | None
    tails: dict[str, float]
    missing: float


def compare(rows: Sequence[Scored], reference: Reference) -> tuple[Drift, dict[str, Drift]]:
    """The drift of the score, and of each feature of the reference.

    Args:
        rows: at least one payment.
    """
    score = drift([(row.event_time, row.score) for row in rows], reference.score)
    features = {
        name: drift([(row.event_time, _value(row.features, name)) for row in rows], expected)
        for name, expected in reference.features.items()
    }
    return score, features


def drift(values: Sequence[tuple[datetime, Any]], reference: Distribution) -> Drift:
    """The drift of values, each with the time of its payment. What is no number is left out, and counted."""
    numbers = [(at, value) for at, value in values if is_number(value)]
    missing = 1 - len(numbers) / len(values)
    if not numbers:
        return Drift(None, {}, missing)
    expected = expected_shares([at for at, _ in numbers], reference)
    found = shares((value for _, value in numbers), reference.edges)
    return Drift(index(expected, found), tails(expected, found, len(numbers)), missing)


def expected_shares(times: Sequence[datetime], reference: Distribution) -> list[float]:
    """The shares that the holdout has in the hours of these payments, in proportion to them.

    For each hour of the week, or where the holdout has too few of it, hour of the day; else of the whole holdout.
    """
    hours = Counter((at.weekday() * 24 + at.hour, at.hour) for at in (time.astimezone(UTC) for time in times))
    mixed = [0.0] * len(reference.shares)
    for (of_week, of_day), count in hours.items():
        of_hour = reference.by_hour_of_week.get(of_week) or reference.by_hour_of_day.get(of_day) or reference.shares
        for position, share in enumerate(of_hour):
            mixed[position] += share * count / len(times)
    return mixed


def tails(expected: Sequence[float], found: Sequence[float], count: int) -> dict[str, float]:
    """How much larger than expected the outermost bins are, where that can be said of so many payments."""
    ends = {"low": 0, "high": -1}
    usual = {tail: max(expected[position], SMALLEST_TAIL_SHARE) for tail, position in ends.items()}
    return {
        tail: found[position] / usual[tail] for tail, position in ends.items() if usual[tail] * count >= SMALLEST_TAIL
    }


def is_number(value: Any) -> bool:
    """Whether it can be counted: no null, text, NaN or infinity."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _value(features: Any, name: str) -> Any:
    return features.get(name) if isinstance(features, Mapping) else None

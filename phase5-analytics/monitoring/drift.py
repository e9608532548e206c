"""The comparison of live payments with a model's holdout. Pure functions.

An hour of payments is compared with the same hours of the holdout: a Sunday night differs from an average week without
any drift.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

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
    hours = [hour_of_week(row.event_time) for row in rows]
    score = drift(hours, [row.score for row in rows], reference.score)
    features = {
        name: drift(hours, [row.features.get(name) for row in rows], expected)
        for name, expected in reference.features.items()
    }
    return score, features


def hour_of_week(at: datetime) -> int:
    """The hours since Monday 00:00 UTC, 0 to 167."""
    in_utc = at.astimezone(UTC)
    return in_utc.weekday() * 24 + in_utc.hour


def drift(hours: Sequence[int], values: Sequence[float], reference: Distribution) -> Drift:
    """The drift of values, each with the hour of the week of its payment.

    NaN is left out, and counted.
    """
    numbers = [value for value in values if not math.isnan(value)]
    missing = 1 - len(numbers) / len(values)
    if not numbers:
        return Drift(None, {}, missing)
    if missing:
        hours = [hour for hour, value in zip(hours, values, strict=True) if not math.isnan(value)]
    expected = expected_shares(hours, reference)
    found = shares(numbers, reference.edges)
    return Drift(index(expected, found), tails(expected, found, len(numbers)), missing)


def expected_shares(hours: Sequence[int], reference: Distribution) -> list[float]:
    """The shares that the holdout has in the hours of these payments, in proportion to them.

    For each hour of the week, or where the holdout has too few of it, hour of the day; else of the whole holdout.
    """
    mixed = [0.0] * len(reference.shares)
    for hour, count in Counter(hours).items():
        of_hour = reference.by_hour_of_week.get(hour) or reference.by_hour_of_day.get(hour % 24) or reference.shares
        for position, share in enumerate(of_hour):
            mixed[position] += share * count / len(hours)
    return mixed


def tails(expected: Sequence[float], found: Sequence[float], count: int) -> dict[str, float]:
    """How much larger than expected the outermost bins are, where that can be said of so many payments."""
    ends = {"low": 0, "high": -1}
    usual = {tail: max(expected[position], SMALLEST_TAIL_SHARE) for tail, position in ends.items()}
    return {
        tail: found[position] / usual[tail] for tail, position in ends.items() if usual[tail] * count >= SMALLEST_TAIL
    }

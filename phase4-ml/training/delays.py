"""Frauds that are not known yet: how many a known one represents, from how long labels took until now.

Upstream is the split by time (examples.py); downstream are the weights with which a model is fitted and calibrated.
Without it a model expects too few frauds: of those just before the gap week, a part has no label when it learns.
"""

import numpy as np
from numpy.typing import NDArray

# Labels that came on fewer days than this came in batches, which say nothing about how long a label takes.
REPORT_DAYS = 7
# At most so many frauds are represented by a known one.
LARGEST_WEIGHT = 2.0

Times = NDArray[np.datetime64]


def represented_frauds(event_time: Times, known_at: Times, now: np.datetime64) -> NDArray[np.float64]:
    """How many frauds of its age each known fraud represents, from 1 to LARGEST_WEIGHT.

    That is 1 / F(age), where F is the distribution of the time from a payment to its label. A delay is only seen if it
    is shorter than the payment's age, so F is the product-limit estimate for data truncated on the right (Lynden-Bell
    1971; used for reporting delays by Kalbfleisch and Lawless 1989). Labels that never come are not part of it.

    Args:
        event_time: of the frauds that are known, UTC.
        known_at: when their labels became known, not after `now`.
        now: when the model is made.
    """
    if len(np.unique(known_at.astype("datetime64[D]"))) < REPORT_DAYS:
        return np.ones(len(event_time))
    delay, age = (known_at - event_time).astype(np.int64), (now - event_time).astype(np.int64)
    delays, frauds = np.unique(delay, return_counts=True)
    # Of the frauds that are old enough for such a delay to be seen, those with a delay that is no longer.
    at_risk = np.searchsorted(np.sort(delay), delays, "right") - np.searchsorted(np.sort(age), delays, "left")
    longer = np.append(np.cumprod((1 - frauds / at_risk)[::-1])[::-1], 1.0)
    known_by_age = longer[np.searchsorted(delays, age, "right")]
    return 1 / np.maximum(known_by_age, 1 / LARGEST_WEIGHT)

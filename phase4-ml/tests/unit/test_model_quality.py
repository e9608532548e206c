"""What labels change about the known frauds."""

import pytest
from model_quality.store import changes


@pytest.mark.parametrize(
    ("frauds_before", "fraud_now", "expected"),
    [
        (set(), {"new": True, "legitimate": False}, {"new": 1}),
        ({"known"}, {"known": True}, {}),
        ({"cleared", "not in this batch"}, {"cleared": False}, {"cleared": -1}),
        (set(), {}, {}),
    ],
)
def test_only_what_is_different_counts(
    frauds_before: set[str], fraud_now: dict[str, bool], expected: dict[str, int]
) -> None:
    assert changes(frauds_before, fraud_now) == expected

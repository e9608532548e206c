"""When the fraud database should have lost its oldest rows."""

from datetime import UTC, date, datetime

import pytest
from model_quality.kept import Kept


@pytest.mark.parametrize(
    ("oldest_end", "overdue"),
    [
        (None, 0),
        # A day that ended before the 30 days that are kept is due in the night after.
        (datetime(2026, 11, 2, tzinfo=UTC), 0),
        (datetime(2026, 11, 1, tzinfo=UTC), 0),
        (datetime(2026, 10, 31, tzinfo=UTC), 1),
        (datetime(2026, 10, 1, tzinfo=UTC), 31),
        # A wrong clock.
        (datetime(2099, 1, 1, tzinfo=UTC), 0),
    ],
)
def test_overdue(oldest_end: datetime | None, overdue: int) -> None:
    assert Kept("predictions", 0, oldest_end).overdue_days(date(2026, 12, 1), keep_days=30) == overdue

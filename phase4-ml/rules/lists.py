"""What is on lists, and when: of `in_list(user_id, 'blocked-users')`, and of rules that are suppressed for a user.

Upstream are the tables list_entries and suppressions; serving has those that are in force now or later, a replay those
of the moment of the decision.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Self

FOR_EVER = datetime.max.replace(tzinfo=UTC)

# A value, from when on it is on the list, and until before when; None is for ever.
type Entry = tuple[str, datetime, datetime | None]


class ListValues:
    """The values of one list, each with the times at which it is on it.

    About 320 bytes a value; half of that where many values are valid at the same time, since times are shared.
    """

    __slots__ = ("_times",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        # Begin and end of each time, one after the other.
        self._times: dict[str, tuple[datetime, ...]] = {}
        shared: dict[tuple[datetime, ...], tuple[datetime, ...]] = {}
        for value, begin, end in entries:
            times = (*self._times.get(value, ()), begin, end or FOR_EVER)
            self._times[value] = shared.setdefault(times, times)

    def has(self, value: str, at: datetime) -> bool:
        """Whether a value is on the list at a moment."""
        times = self._times.get(value)
        if times is None:
            return False
        if len(times) == 2:
            return times[0] <= at < times[1]
        return any(begin <= at < end for begin, end in zip(times[::2], times[1::2], strict=True))

    def __len__(self) -> int:
        return len(self._times)

    def entries(self) -> list[Entry]:
        """All of it, as the constructor takes it."""
        return [
            (value, begin, None if end == FOR_EVER else end)
            for value, times in self._times.items()
            for begin, end in zip(times[::2], times[1::2], strict=True)
        ]

    @classmethod
    def by_name[K](cls, rows: Iterable[tuple[K, str, datetime, datetime | None]]) -> dict[K, Self]:
        """Several of them, from rows that begin with the name of the list, or with the number of the rule."""
        entries: dict[K, list[Entry]] = {}
        for name, value, begin, end in rows:
            entries.setdefault(name, []).append((value, begin, end))
        return {name: cls(each) for name, each in entries.items()}

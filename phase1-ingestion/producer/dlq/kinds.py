"""Counts by kind in bounded memory, however many kinds there are."""

from collections import Counter
from collections.abc import Hashable

# Stages and reasons of ours are some dozens; those of foreign dead letters may be as many as the letters.
MAX_KINDS = 200


class KindCounts[Kind: Hashable]:
    """Counts the first 200 kinds one by one, and what is of any later kind together."""

    def __init__(self) -> None:
        self._counts: Counter[Kind] = Counter()
        self.others = 0

    def add(self, kind: Kind) -> None:
        """Count one."""
        if kind in self._counts or len(self._counts) < MAX_KINDS:
            self._counts[kind] += 1
        else:
            self.others += 1

    def most_common(self) -> list[tuple[Kind, int]]:
        """Kinds and counts, the most frequent first."""
        return self._counts.most_common()

"""Sets of positions in Kafka that stay small: two million neighbouring offsets take less than a megabyte."""

from collections import defaultdict
from collections.abc import Iterable

from fraud_common.dead_letters import Position
from fraud_common.topics import DEAD_LETTERS
from pyroaring import BitMap64


class PositionSet:
    """A set of topic-partition-offsets, as one compressed bitmap per topic-partition."""

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._offsets: defaultdict[tuple[str, int], BitMap64] = defaultdict(BitMap64)
        for position in positions:
            self.add(position)

    def add(self, position: Position) -> None:
        """Add one; adding it again changes nothing."""
        topic, partition, offset = position
        self._offsets[topic, partition].add(offset)

    def __contains__(self, position: Position) -> bool:
        topic, partition, offset = position
        return offset in self._offsets.get((topic, partition), ())

    def __len__(self) -> int:
        return sum(len(offsets) for offsets in self._offsets.values())


def parse_coordinates(text: str) -> Position | None:
    """The dead letter that PARTITION-OFFSET names, as dlq-show prints it; None if the text is something else."""
    numbers = text.strip().split("-")
    # Python's own conversion takes digits of all scripts, and refuses very long numbers.
    if len(numbers) != 2 or not all(number.isascii() and number.isdecimal() and len(number) < 19 for number in numbers):
        return None
    return Position(DEAD_LETTERS, *map(int, numbers))

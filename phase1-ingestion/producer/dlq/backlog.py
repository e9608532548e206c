"""The dead letters that were not sent back yet: what both tools start from. None is kept in memory."""

from collections.abc import Iterator, Mapping

from fraud_common.dead_letters import DeadLetter, Position, read_dead_letters
from fraud_common.kafka import make_reader, offsets_of, read_topic, require_topics, wait_for_broker
from fraud_common.topics import DEAD_LETTERS, REDRIVEN
from tqdm import tqdm

from producer.dlq.positions import PositionSet, parse_coordinates
from producer.settings import Settings

# By partition of the dead letter topic, the first offset and the one after the last.
Ranges = dict[int, tuple[int, int]]

_READER_OPTIONS = {
    "fetch.wait.max.ms": 50,
    # A fetch is unpacked at once, and small dead letters compress well: the default of 1 MiB takes more memory.
    "fetch.message.max.bytes": 524_288,
    # What was deleted since the offsets were asked for is left out.
    "auto.offset.reset": "earliest",
}


class Backlog:
    """The dead letter topic as it was when this was made; later dead letters are not part of it."""

    def __init__(self, settings: Settings) -> None:
        """Read which dead letters were sent back.

        Raises:
            UserError: the broker does not answer, or a topic is missing.
        """
        partitions = require_topics(wait_for_broker(settings), DEAD_LETTERS, REDRIVEN)[DEAD_LETTERS]
        self._settings = settings
        client = make_reader(settings, **_READER_OPTIONS)
        self.ranges: Ranges = {number: offsets_of(client, DEAD_LETTERS, number) for number in range(partitions)}
        first_ranges = {number: (start, start + 1) for number, (start, end) in self.ranges.items() if start < end}
        first_ms = {letter.partition: letter.written_ms for letter in read_dead_letters(client, first_ranges)}
        self.sent_back = PositionSet()
        for message in read_topic(client, REDRIVEN):
            mark = parse_coordinates((message.key() or b"").decode(errors="replace"))
            # A mark that is older than all dead letters is of a topic that was deleted and made again.
            if mark and self._has(mark) and message.timestamp()[1] >= first_ms.get(mark.partition, 0):
                self.sent_back.add(mark)
        client.close()

    def __len__(self) -> int:
        """How many dead letters the topic has, with those that were sent back."""
        return sum(end - start for start, end in self.ranges.values())

    def letters(self, task: str, ranges: Mapping[int, tuple[int, int]] | None = None) -> Iterator[DeadLetter]:
        """The dead letters that were not sent back yet, one at a time, with a progress bar in a terminal.

        Args:
            task: what the bar says.
            ranges: only these offsets.

        Raises:
            UserError: the broker refuses to give them.
        """
        ranges = self.ranges if ranges is None else ranges
        client = make_reader(self._settings, **_READER_OPTIONS)
        total = sum(end - start for start, end in ranges.values())
        try:
            for letter in tqdm(
                read_dead_letters(client, ranges), task, total, leave=False, unit=" letters", disable=None
            ):
                if letter.position not in self.sent_back:
                    yield letter
        finally:
            client.close()

    def _has(self, position: Position) -> bool:
        start, end = self.ranges.get(position.partition, (0, 0))
        return start <= position.offset < end

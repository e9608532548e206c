"""Counts the dead letters by stage and reason, and prints the newest."""

import heapq
import json
import re
from dataclasses import dataclass, field

from fraud_common.avro import Decoder
from fraud_common.dead_letters import ERROR, DeadLetter
from fraud_common.errors import SerializationError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from producer.dlq.backlog import Backlog, Ranges
from producer.dlq.kinds import KindCounts
from producer.settings import Settings

_SHOWN_CHARACTERS = 600
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def show(settings: Settings, last: int) -> None:
    """Print counts by stage and reason, and the newest `last` dead letters, decoded if possible.

    Raises:
        UserError: the broker or the registry does not answer, or a topic is missing.
        KeyboardInterrupt: on Ctrl-C, after what was counted so far is printed.
    """
    backlog = Backlog(settings)
    overview = Overview(last)
    console = Console(width=160)
    try:
        for letter in backlog.letters("counting dead letters"):
            overview.add(letter)
    except KeyboardInterrupt:
        console.print("[bold]interrupted: only a part was counted[/]")
        console.print(table_of(overview, len(backlog.sent_back)))
        raise
    if not overview.total:
        console.print(f"{DEAD_LETTERS}: none ({len(backlog.sent_back):,} were sent back)")
        return
    console.print(table_of(overview, len(backlog.sent_back)))
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    for lines in _newest(backlog, overview, decoder):
        for line in lines:
            console.print(line, markup=False, highlight=False)


@dataclass
class Overview:
    """What there is, in memory that does not grow with the number of dead letters."""

    last: int  # how many of the newest are kept in mind
    total: int = 0
    counts: KindCounts[tuple[str, str]] = field(default_factory=KindCounts)  # by stage and reason
    _newest: list[tuple[str, int, int]] = field(default_factory=list)  # a heap of failed_at, offset, partition

    def add(self, letter: DeadLetter) -> None:
        """Count one."""
        self.total += 1
        for reason in letter.reasons:
            self.counts.add((letter.stage, reason))
        entry = (letter.failed_at, letter.offset, letter.partition)
        if len(self._newest) < self.last:
            heapq.heappush(self._newest, entry)
        elif self.last:
            heapq.heappushpop(self._newest, entry)

    @property
    def newest(self) -> list[tuple[int, int]]:
        """Partition and offset of the newest, oldest first."""
        return [(partition, offset) for _, offset, partition in sorted(self._newest)]


def describe(letter: DeadLetter, decoder: Decoder) -> str:
    """The content of a dead letter for a person: the decoded record, else its text, else its first bytes."""
    value = letter.value
    if value is None:
        return "a tombstone: it has no value"
    if letter.is_json:
        return value.decode(errors="replace")
    try:
        return json.dumps(decoder.decode(value), default=str, ensure_ascii=False)
    except SerializationError as error:
        return f"{len(value):,} bytes ({error}): {value[:60]!r}"


def printable(text: str) -> str:
    """The text without control characters, by which a dead letter could command the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def table_of(overview: Overview, sent_back: int) -> Table:
    """The counts by stage and reason."""
    table = Table(title=f"{DEAD_LETTERS}: {overview.total:,} (and {sent_back:,} sent back)")
    for column in ("stage", "reason", "count"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for (stage, reason), count in overview.counts.most_common():
        table.add_row(Text(printable(stage)), Text(printable(reason)), f"{count:,}")
    if overview.counts.others:
        table.add_row("", "other reasons", f"{overview.counts.others:,}")
    return table


def _newest(backlog: Backlog, overview: Overview, decoder: Decoder) -> list[list[str]]:
    """The lines of the newest letters, which are read again: only their text is kept."""
    wanted = overview.newest
    ranges: Ranges = {}
    for partition, offset in wanted:
        start, end = ranges.get(partition, (offset, offset + 1))
        ranges[partition] = (min(start, offset), max(end, offset + 1))
    lines: dict[tuple[int, int], list[str]] = {place: [] for place in wanted}
    for letter in backlog.letters("reading the newest", ranges):
        if (place := (letter.partition, letter.offset)) in lines:
            lines[place] = _lines_of(letter, decoder)
    return [lines[place] for place in wanted]


def _lines_of(letter: DeadLetter, decoder: Decoder) -> list[str]:
    lines = [
        f"{letter.coordinates}  {letter.failed_at}  {letter.stage}  "
        f"{', '.join(letter.reasons)}  for {letter.topic}, attempt {letter.attempts}",
        f"    why:  {letter.headers.get(ERROR, '')}",
        f"    what: {describe(letter, decoder):.{_SHOWN_CHARACTERS}}",
    ]
    return [printable(line) for line in lines]

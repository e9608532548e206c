"""Counts the dead letters by stage and reason, and prints the newest."""

import json
from collections import Counter

from fraud_common.avro import Decoder
from fraud_common.dead_letters import ERROR, FAILED_AT, DeadLetter
from fraud_common.errors import SerializationError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS
from rich.console import Console
from rich.table import Table

from producer.dlq.backlog import Backlog, read_backlog
from producer.settings import Settings


def show(settings: Settings, last: int) -> None:
    """Print counts by stage and reason, and the newest `last` dead letters, decoded if possible.

    Raises:
        UserError: the broker or the registry does not answer, or a topic is missing.
    """
    backlog = read_backlog(settings)
    console = Console(width=160)
    if not backlog.letters:
        console.print(f"{DEAD_LETTERS}: none ({backlog.sent_back:,} were sent back)")
        return
    console.print(_table_of(backlog))
    decoder = Decoder(SchemaRegistry(settings.schema_registry_url))
    for letter in backlog.letters[-last:] if last else []:
        console.print(
            f"[bold]{letter.coordinates}[/]  {letter.headers.get(FAILED_AT, '')}  {letter.stage}  "
            f"{', '.join(letter.reasons)}  for {letter.topic}, attempt {letter.attempts}",
            highlight=False,
        )
        console.print(f"    why:  {letter.headers.get(ERROR, '')}", markup=False, highlight=False)
        console.print(f"    what: {describe(letter, decoder):.600}", markup=False, highlight=False)


def describe(letter: DeadLetter, decoder: Decoder) -> str:
    """The content of a dead letter for a person: the decoded record, else its text, else its first bytes."""
    value = letter.value or b""
    if letter.is_json:
        return value.decode(errors="replace")
    try:
        return json.dumps(decoder.decode(value), default=str, ensure_ascii=False)
    except SerializationError as error:
        return f"{len(value):,} bytes ({error}): {value[:60]!r}"


def _table_of(backlog: Backlog) -> Table:
    counts = Counter((letter.stage, reason) for letter in backlog.letters for reason in letter.reasons)
    table = Table(title=f"{DEAD_LETTERS}: {len(backlog.letters):,} (and {backlog.sent_back:,} sent back)")
    for column in ("stage", "reason", "count"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for (stage, reason), count in counts.most_common():
        table.add_row(stage, reason, f"{count:,}")
    return table

"""The rows of a file as payments, on disk: read once, then counted, ordered and handed out in portions.

Between the file and Kafka there is this table, so nothing is sent before the whole file was read, and memory does not
depend on the size of the file.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import duckdb
from fraud_common.errors import UserError
from tqdm import tqdm

from producer.replay.column_map import ColumnMap
from producer.replay.mapping import Mapping, map_source
from producer.replay.source import Source, open_source

# With Python, the Kafka client's queue and what DuckDB does not count, the program stays under 400 MiB. Rows of many KB
# need more: DuckDB has 2,048 at a time in memory.
_MEMORY_LIMITS = ("192MB", "640MB")
# Functions that people use with columns of dates, which are text in a CSV.
_MACROS = (
    "create macro make_timestamp(y, m, d, h, mi, s) as"
    " system.main.make_timestamp(y::bigint, m::bigint, d::bigint, h::bigint, mi::bigint, s::double)",
    "create macro make_date(y, m, d) as system.main.make_date(y::bigint, m::bigint, d::bigint)",
)

# What is handed out at a time: so many rows, or fewer of large ones.
_PORTION_ROWS, _PORTION_BYTES = 5_000, 16_000_000

_PERCENT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"

Record = dict[str, Any]

# The condition for rows that can be sent.
SENDABLE = "bad is null and violated is null"


@dataclass(frozen=True)
class Row:
    """A row that is refused."""

    number: int  # in the file, from 1
    fields: Record  # those of the mapping; times in ms, the amount in cents
    misfit: str | None  # what does not fit, as a sentence
    violated: str | None  # the names of the rules that it violates
    draft: str | None  # what the file has for each field, as JSON
    original: str | None  # all its columns, as JSON


@dataclass(frozen=True)
class Rows:
    """All rows of a file; `size` of them, of which the last are the lines that could not be read at all."""

    connection: duckdb.DuckDBPyConnection
    name: str
    mapping: Mapping
    rejected: list[tuple[int, str, str]]  # line number, text, reason
    readable: int
    portion: int  # of so many rows at a time, whatever their size, memory stays small
    some_refused: bool
    some_again: bool  # whether rows occur more than once

    @property
    def size(self) -> int:
        """How many rows the file has."""
        return self.readable + len(self.rejected)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query over table payments."""
        return self.connection.execute(query).fetchall()

    def sendable(self, start: int, end: int) -> Iterator[tuple[int, Record]]:
        """Number and fields of the rows from position `start` to before `end`, both from 0, that are payments."""
        again = self._again(start, end)
        names = self._names()
        condition = f"{_between(start, end)} and {SENDABLE}"
        for position, number, content, *values in self._columns("position, number, content::varchar", names, condition):
            fields = dict(zip(names, values, strict=True))
            if content is not None:
                fields["transaction_id"] = _content_id(content, again.get(position))
            yield number, fields

    def refused(self, start: int, end: int) -> Iterator[Row]:
        """The other rows among these."""
        if not self.some_refused:
            return
        again = self._again(start, end)
        names = self._names()
        own = "position, number, content::varchar, bad, violated, draft, original"
        for position, number, content, bad, violated, draft, original, *values in self._columns(
            own, names, f"{_between(start, end)} and not ({SENDABLE})"
        ):
            fields = dict(zip(names, values, strict=True))
            if content is not None:
                fields["transaction_id"] = _content_id(content, again.get(position))
            yield Row(number, fields, bad, violated, draft, original)

    def _again(self, start: int, end: int) -> dict[int, int]:
        """By position, how often the same row has come by then."""
        if not self.some_again:
            return {}
        return dict(self.ask(f"select position, nth from again where {_between(start, end)}"))

    def _names(self) -> list[str]:
        return [*self.mapping.stored, *(["reported_at"] if self.labelled_by_delay else [])]

    def _columns(self, own: str, names: list[str], condition: str) -> Iterator[tuple[Any, ...]]:
        table = self.connection.sql(
            f"select {own}, {', '.join(names)} from payments where {condition} order by position"
        ).to_arrow_table()
        return zip(*(column.to_pylist() for column in table.columns), strict=True)

    @property
    def labelled_by_delay(self) -> bool:
        """Whether labels have a time that the file does not give."""
        return "is_fraud" in self.mapping.stored and "reported_at" not in self.mapping.stored


@contextmanager
def read_rows(file: Path, column_map: ColumnMap) -> Iterator[Rows]:
    """Read the whole file into a table on disk, which is gone at the end.

    Raises:
        UserError: the file can't be read, or the map doesn't fit it; or the disk is full.
    """
    with TemporaryDirectory(prefix="replay-") as folder:
        source = open_source(file, column_map, Path(folder))
        try:
            for limit in _MEMORY_LIMITS:
                try:
                    rows = _read(_connect(Path(folder) / limit, limit), source, column_map, file.stat().st_size)
                    break
                except duckdb.OutOfMemoryException:
                    if limit == _MEMORY_LIMITS[-1]:
                        raise
            with closing(rows.connection):
                yield rows
        except duckdb.Error as error:
            raise UserError(f"FILE={file}: {str(error).splitlines()[0]}") from error


def _connect(folder: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    folder.mkdir()
    connection = duckdb.connect(
        str(folder / "rows.duckdb"),
        config={
            "memory_limit": memory_limit,
            "temp_directory": str(folder / "spilled"),
            "threads": 2,
            "autoinstall_known_extensions": False,
        },
    )
    for macro in _MACROS:
        connection.execute(macro)
    return connection


def _read(connection: duckdb.DuckDBPyConnection, source: Source, column_map: ColumnMap, file_bytes: int) -> Rows:
    mapping = map_source(connection, source, column_map, datetime.now(UTC))
    with _progress(connection, source.name):
        connection.execute(f"create table found as {mapping.query}")
    rejected = source.rejected_lines(connection)
    order = "event_time nulls last, rowid" if column_map.order_by_time else "rowid"
    # A position is what START means; a number is the row's place in the file.
    if column_map.order_by_time:
        connection.execute(f"create table ordered as select rowid + 1 as number, * from found order by {order}")
        connection.execute("drop table found")
        connection.execute("create view payments as select rowid as position, * from ordered")
    else:
        connection.execute("create view payments as select rowid as position, rowid + 1 as number, * from found")
    # Rows that are the same, all columns included, are payments of their own: the second has a 2 in its id.
    connection.execute(
        "create table again as select position, nth from (select position, row_number() over"
        " (partition by content order by number) as nth from payments where content in"
        " (select content from payments where content is not null group by content having count(*) > 1)) where nth > 1"
    )
    ((readable, sendable),) = connection.execute(
        f"select count(*), count(*) filter ({SENDABLE}) from payments"
    ).fetchall()
    ((again,),) = connection.execute("select count(*) from again").fetchall()
    return Rows(
        connection=connection,
        name=source.name,
        mapping=mapping,
        rejected=rejected,
        readable=readable,
        portion=min(_PORTION_ROWS, max(1, _PORTION_BYTES * max(readable, 1) // max(file_bytes, 1))),
        some_refused=sendable < readable,
        some_again=again > 0,
    )


@contextmanager
def _progress(connection: duckdb.DuckDBPyConnection, name: str) -> Iterator[None]:
    """A bar for a long query, from a thread of its own: the connection is busy meanwhile."""
    connection.execute("set enable_progress_bar = true")  # without it there are no numbers
    connection.execute("set enable_progress_bar_print = false")
    done = Event()

    def show() -> None:
        with tqdm(total=100, desc=f"reading {name}", bar_format=_PERCENT, delay=1, leave=False) as bar:
            while not done.wait(0.5):
                bar.update(max(connection.query_progress() - bar.n, 0))

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _between(start: int, end: int) -> str:
    return f"position >= {start} and position < {end}"


def _content_id(content: str, nth: int | None) -> str:
    return f"replay-{content}-{nth}" if nth else f"replay-{content}"

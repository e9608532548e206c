"""Opens a file of any supported kind for DuckDB: CSV (any delimiter, encoding, compression), Parquet, JSON lines.

A source is SQL: where the rows come from, their columns, and what is wrong with a row that is not one.
"""

import bz2
import codecs
import csv
import gzip
import io
import itertools
import lzma
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO, cast

import duckdb
from fraud_common.errors import UserError

from producer.replay.column_map import ColumnMap

# No cell of a file is this, so a null in a CSV's row means that the row has no such column.
_NEVER = "\x01\x02"
# Columns beyond those of the header are kept up to so many, for the dead letter.
_EXTRA_COLUMNS = 16
_DELIMITERS = ",;\t|"
# Of a rejected line no more than this is kept: the topic of dead letters takes 10 MB.
_MAX_LINE_BYTES = 4_000_000


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _bz2(path: Path) -> IO[bytes]:
    return bz2.open(path, "rb")


def _xz(path: Path) -> IO[bytes]:
    return lzma.open(path, "rb")


_OPENERS: dict[bytes, Callable[[Path], IO[bytes]]] = {b"\x1f\x8b": _gzip, b"BZh": _bz2, b"\xfd7zXZ\x00": _xz}
# Kinds of files that people have and that are not read, with what to do.
_OTHERS = {
    b"PK\x03\x04": "a zip archive or an Excel sheet; unpack it, or save the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or use gzip",
    b"\xd0\xcf\x11\xe0": "an Excel sheet; save it as CSV",
    b"\x80\x04": "a Python pickle; convert it: pandas.read_pickle(…).to_parquet(…)",
    b"\x80\x05": "a Python pickle; convert it: pandas.read_pickle(…).to_parquet(…)",
}


@dataclass(frozen=True)
class Source:
    """A file as SQL."""

    name: str
    rows: str  # the FROM clause
    columns: dict[str, str]  # name -> type in DuckDB
    identity: str  # an expression: the text of the whole row
    original: tuple[str, ...]  # the columns that show the whole row to a person
    fault: str = "null"  # an expression: why this is not a row, else null
    lines: Path | None = None  # where the lines that the reader rejects can be found
    opener: Callable[[Path], IO[bytes]] = _plain

    def rejected_lines(self, connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str, str]]:
        """Number, text and reason of each line that could not be read at all; call it after the rows were read."""
        known = "select 1 from information_schema.tables where table_name = 'reject_errors'"
        if self.lines is None or not connection.sql(known).fetchall():
            return []
        errors = connection.sql(
            "select line, min(line_byte_position), arg_min(error_type, column_idx) from reject_errors"
            " group by line order by line"
        ).fetchall()
        texts = _texts_at(self.opener(self.lines), [position for _, position, _ in errors])
        reasons = {"INVALID ENCODING": "not UTF-8; name the file's encoding in the map (encoding: latin-1)"}
        return [
            (line, text, reasons.get(kind, kind.lower())) for (line, _, kind), text in zip(errors, texts, strict=True)
        ]


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def open_source(file: Path, column_map: ColumnMap, scratch: Path) -> Source:
    """Find out what kind of file it is, and how to read it.

    Args:
        scratch: a folder for a copy in UTF-8, where DuckDB can't read the file itself.

    Raises:
        UserError: the file is missing, empty, of an unsupported kind, or damaged.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
        if start.startswith(b"PAR1") or file.suffix.lower() in (".parquet", ".pq"):
            return _parquet(file)
        for magic, kind in _OTHERS.items():
            if start.startswith(magic):
                raise UserError(f"FILE={file}: {kind}")
        return _text(file, start, column_map, scratch)
    except OSError as error:
        raise UserError(f"FILE={file}: {error.strerror or error}") from None
    except (duckdb.Error, EOFError, lzma.LZMAError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"FILE={file}: can't be read as {file.suffix or 'CSV'}: {first}") from None


def _parquet(file: Path) -> Source:
    rows = f"read_parquet({literal(str(file))})"
    with duckdb.connect() as connection:
        columns = {name: kind for name, kind, *_ in connection.sql(f"describe select * from {rows}").fetchall()}
    return Source(
        name=file.name,
        rows=rows,
        columns=columns,
        identity=_joined([f"{quoted(name)}::varchar" for name in columns]),
        original=tuple(columns),
    )


def _text(file: Path, start: bytes, column_map: ColumnMap, scratch: Path) -> Source:
    opener = next((opens for magic, opens in _OPENERS.items() if start.startswith(magic)), _plain)
    with opener(file) as stream:
        marked = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if marked else column_map.encoding
    path, compression = file, "gzip" if start.startswith(b"\x1f\x8b") else "none"
    # DuckDB reads plain and gzipped UTF-8 itself.
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig", "ascii") or opener not in (_plain, _gzip):
        path, compression = scratch / "utf-8.txt", "none"
        _copy_as_utf8(opener(file), encoding, path)
        opener = _plain
    with io.TextIOWrapper(opener(path), encoding="utf-8-sig", errors="replace", newline="") as text:
        beginning = text.read(1 << 16).lstrip()
    if not beginning:
        raise UserError(f"FILE={file}: is empty")
    if beginning.startswith(("{", "[{", "[\n", "[ ", "[\r")):
        return _json_lines(file, path, beginning, compression)
    with io.TextIOWrapper(opener(path), encoding="utf-8-sig", errors="replace", newline="") as text:
        return _csv(file, path, text, column_map.delimiter, compression)


def _csv(file: Path, path: Path, text: TextIO, delimiter: str | None, compression: str) -> Source:
    first = text.readline()
    delimiter = delimiter or max(_DELIMITERS, key=first.count)
    try:
        header = next(csv.reader(itertools.chain([first], text), delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"FILE={file}: the first line is no header: {error}") from None
    names = _unique(header)
    extra = _unique([*names, *(f"column {len(names) + n + 1}" for n in range(_EXTRA_COLUMNS))])[len(names) :]
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in (*names, *extra))
    rows = (
        f"read_csv({literal(str(path))}, auto_detect=false, header=true, columns={{{types}}},"
        f" delim={literal(delimiter)}, quote='\"', escape='\"', nullstr={literal(_NEVER)},"
        f" compression='{compression}', store_rejects=true,"
        # Strict mode refuses a whole file for a quotation mark inside a value. Rows of other lengths are kept by
        # null_padding, and found by what is null; in parallel that does not work with line breaks in values.
        " strict_mode=false, null_padding=true, parallel=false, buffer_size=4000000)"
    )
    present = f"len(list_filter([{', '.join(map(quoted, (*names, *extra)))}], lambda x: x is not null))"
    return Source(
        name=file.name,
        rows=rows,
        columns=dict.fromkeys(names, "VARCHAR"),
        identity=_joined([quoted(name) for name in names]),
        original=(*names, *extra),
        fault=(
            f"case when {quoted(names[-1])} is null or {quoted(extra[0])} is not null"
            f" then 'line: ' || {present} || ' columns instead of {len(names)}' end"
        ),
        lines=path,
        opener=_gzip if compression == "gzip" else _plain,
    )


def _json_lines(file: Path, path: Path, beginning: str, compression: str) -> Source:
    if beginning.startswith("["):
        lines = f"(select json as line from read_json_objects({literal(str(path))}, format='array'))"
    else:
        lines = (  # JSON has no such delimiter
            f"read_csv({literal(str(path))}, auto_detect=false, header=false, columns={{'line': 'VARCHAR'}},"
            f" delim='\x1f', quote='', escape='', nullstr={literal(_NEVER)}, compression='{compression}',"
            " store_rejects=true, strict_mode=false, parallel=false)"
        )
    document = "case when json_valid(line) then case when json_type(line) = 'OBJECT' then line end end"
    with duckdb.connect() as connection:
        keys = [
            key
            for (key,) in connection.sql(
                f"select key from (select unnest(json_keys({document})) as key from {lines})"
                " group by key order by count(*) desc, key"
            ).fetchall()
        ]
    if not keys:
        raise UserError(f"FILE={file}: has no JSON object in its lines")
    names = _unique(keys)
    pointers = ", ".join(literal("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys)
    values = ", ".join(
        # A whole number that some program has written as a float.
        f"case when kinds[{n}] = 'DOUBLE' then regexp_replace(texts[{n}], '\\.0+$', '') else texts[{n}] end"
        f" as {quoted(name)}"
        for n, name in enumerate(names, start=1)
    )
    rows = (
        f"(select line, document, {values} from (select *, json_extract_string(document, [{pointers}]) as texts,"
        f" json_type(document, [{pointers}]) as kinds from (select line, {document} as document from {lines})))"
    )
    return Source(
        name=file.name,
        rows=rows,
        columns=dict.fromkeys(names, "VARCHAR"),
        identity="trim(line, ' \t\r')",
        original=("line",),
        fault="case when document is null then 'line: not a JSON object' end",
        lines=path,
        opener=_gzip if compression == "gzip" else _plain,
    )


def _copy_as_utf8(stream: IO[bytes], encoding: str, target: Path) -> None:
    """Bytes that are none of the encoding stay as they are, so that the reader rejects their line, and no other."""
    with (
        stream,
        io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="") as text,
        target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as copy,
    ):
        shutil.copyfileobj(text, copy, 1 << 20)


def _texts_at(stream: IO[bytes], positions: list[int]) -> list[str]:
    """The lines that begin at these positions; bytes that are not UTF-8 as \\xe9."""
    with stream:
        texts = []
        for position in positions:
            # DuckDB counts from 1, and takes the second half of a CRLF for the beginning.
            stream.seek(position - 1)
            line = stream.readline(_MAX_LINE_BYTES).strip(b"\r\n") or stream.readline(_MAX_LINE_BYTES).strip(b"\r\n")
            texts.append(line.decode(errors="backslashreplace"))
        return texts


def _unique(names: Iterable[str]) -> list[str]:
    """Names as columns: blanks at the ends go, empty ones are numbered, and no two are the same in SQL."""
    unique: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        base = name.strip() or f"column {number}"
        candidates = itertools.chain([base], (f"{base}_{n}" for n in itertools.count(1)))
        chosen = next(candidate for candidate in candidates if candidate.lower() not in unique)
        unique[chosen.lower()] = chosen
    return list(unique.values())


def _joined(texts: list[str]) -> str:
    return f"concat({", '\x1f', ".join(texts)})"

"""Reads CSV and Parquet files in batches of rows."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from fraud_common.errors import UserError

BATCH_ROWS = 2_000

Row = dict[str, Any]


@dataclass
class RowFile:
    """An open file."""

    columns: list[str]
    rows: int  # how many; of a CSV its line breaks, for the progress bar
    batches: Iterator[list[Row]]
    # Lines of a CSV with too few or too many columns; they are added while the batches are read.
    broken: list[str] = field(default_factory=list)


def open_rows(file: Path, delimiter: str) -> RowFile:
    """Open a file. Text of a CSV stays text: the fields decide the types.

    Raises:
        UserError: the file is missing or can't be read as CSV or Parquet.
    """
    try:
        return _open_parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _open_csv(file, delimiter)
    except OSError as error:
        raise UserError(f"FILE={file}: {error.strerror or error}") from None
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"FILE={file}: can't be read as {file.suffix or 'CSV'}: {error}") from None


def _open_parquet(file: Path) -> RowFile:
    parquet = pa.parquet.ParquetFile(file)
    batches = (batch.to_pylist() for batch in parquet.iter_batches(BATCH_ROWS))
    return RowFile(parquet.schema_arrow.names, parquet.metadata.num_rows, batches)


def _open_csv(file: Path, delimiter: str) -> RowFile:
    broken: list[str] = []

    def keep_broken(line: pa.csv.InvalidRow) -> str:
        broken.append(f"{line.text} ({line.actual_columns} columns instead of {line.expected_columns})")
        return "skip"

    with file.open("rb") as stream:
        line_breaks = sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))
    with file.open(newline="", encoding="utf-8-sig") as text:
        names = next(csv.reader(text, delimiter=delimiter), [])
    reader = pa.csv.open_csv(
        file,
        parse_options=pa.csv.ParseOptions(
            delimiter=delimiter, invalid_row_handler=keep_broken, newlines_in_values=True
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    batches = _guarded(file, (batch.to_pylist() for batch in reader))
    return RowFile(names, max(line_breaks - 1, 0), batches, broken)


def _guarded(file: Path, batches: Iterator[list[Row]]) -> Iterator[list[Row]]:
    try:
        yield from batches
    except pa.ArrowInvalid as error:
        raise UserError(f"FILE={file}: {error}; the rows before it were sent") from None

"""Replay: a CSV or Parquet file of real transactions through the same topics as the simulated ones.

Event times are kept, so everything downstream works as of the data's own time. A row that doesn't fit goes to the
dead letter topic, from where it can be repaired and sent back; the others go on.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from producer.replay.coerce import (
    DEFAULTS,
    LABEL_DELAY_DAYS,
    LABEL_FIELDS,
    REQUIRED,
    TRANSACTION_FIELDS,
    to_label,
    to_transaction,
)
from producer.delivery import Delivery
from fraud_common.errors import SerializationError, UserError
from producer.kafka import require_topics, wait_for_broker
from fraud_common.schema_registry import Registry, load_encoder
from producer.settings import DEAD_LETTER_TOPIC, LABELS_TOPIC, TRANSACTIONS_TOPIC, Settings

BATCH_ROWS = 2_000

Row = dict[str, Any]


class ColumnMap(BaseModel):
    """The column map file: which column of the file is which field, and what the file doesn't say."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, str] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    # iso, s, ms (since 1970), or a strptime format.
    time_format: str = "iso"
    # When a label became known, where the file has no reported_at.
    label_delay_days: float = Field(default=LABEL_DELAY_DAYS, ge=0)


def load_map(path: Path | None) -> ColumnMap:
    """Read the map; without one each column is the field of the same name.

    Raises:
        UserError: the file is missing, no YAML, or has an unknown key or field.
    """
    if path is None:
        return ColumnMap()
    try:
        column_map = ColumnMap.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise UserError(f"MAP={path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"MAP={path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"MAP={path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
    known = {*TRANSACTION_FIELDS, *LABEL_FIELDS}
    for field in (*column_map.columns, *column_map.defaults):
        if field not in known:
            raise UserError(f"MAP={path}: {field} is not a field; the fields are {', '.join(sorted(known))}")
    return column_map


def fields_of(column_map: ColumnMap, columns: list[str], file: Path) -> dict[str, str]:
    """Which column each field comes from: the map's word, else the column of the same name.

    Raises:
        UserError: the map names a column that the file doesn't have, or a required field comes from nowhere.
    """
    for field, column in column_map.columns.items():
        if column not in columns:
            raise UserError(f"{file}: has no column {column!r} for {field}; its columns are {', '.join(columns)}")
    same_name = {field: field for field in (*TRANSACTION_FIELDS, *LABEL_FIELDS) if field in columns}
    fields = same_name | column_map.columns
    for field in REQUIRED:
        if field not in fields and field not in column_map.defaults:
            raise UserError(f"{file}: {field} is required; name its column in the map (columns: {{{field}: …}})")
    return fields


def open_rows(file: Path, delimiter: str, broken: list[str]) -> tuple[list[str], int, Iterator[list[Row]]]:
    """Column names, number of rows, and the rows in batches. Text of a CSV stays text: the fields decide the types.

    Args:
        broken: gets the lines of a CSV that have too few or too many columns, as they are read.

    Raises:
        UserError: the file is missing or can't be read as CSV or Parquet.
    """

    def keep_broken(line: pa.csv.InvalidRow) -> str:
        broken.append(f"{line.text} ({line.actual_columns} columns instead of {line.expected_columns})")
        return "skip"

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            parquet = pa.parquet.ParquetFile(file)
            batches = (batch.to_pylist() for batch in parquet.iter_batches(BATCH_ROWS))
            return parquet.schema_arrow.names, parquet.metadata.num_rows, batches
        with file.open("rb") as stream:
            rows = sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b"")) - 1
        with file.open(newline="", encoding="utf-8-sig") as text:
            names = next(csv.reader(text, delimiter=delimiter), [])
        options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        parse = pa.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=keep_broken, newlines_in_values=True)
        reader = pa.csv.open_csv(file, parse_options=parse, convert_options=options)
        return names, max(rows, 0), _guarded(file, (batch.to_pylist() for batch in reader))
    except OSError as error:
        raise UserError(f"FILE={file}: {error.strerror or error}") from None
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"FILE={file}: can't be read as {file.suffix or 'CSV'}: {error}") from None


def _guarded(file: Path, batches: Iterator[list[Row]]) -> Iterator[list[Row]]:
    try:
        yield from batches
    except pa.ArrowInvalid as error:
        raise UserError(f"FILE={file}: {error}; the rows before it were sent") from None


def to_draft(row: Row, fields: dict[str, str], column_map: ColumnMap, row_id: str) -> Row:
    """A row under our field names, with values as they are in the file."""
    draft = dict(column_map.defaults) | {
        field: row[column] for field, column in fields.items() if row[column] is not None
    }
    if draft.get("transaction_id") in (None, ""):
        draft["transaction_id"] = row_id
    return draft


def run_replay(settings: Settings, file: Path, map_file: Path | None) -> None:
    """Send the whole file and print what became of its rows.

    Raises:
        UserError: file, map or stack are not as they must be; nothing was sent then.
    """
    column_map = load_map(map_file)
    broken: list[str] = []
    columns, total, batches = open_rows(file, column_map.delimiter, broken)
    fields = fields_of(column_map, columns, file)
    require_topics(wait_for_broker(settings), TRANSACTIONS_TOPIC, LABELS_TOPIC, DEAD_LETTER_TOPIC)
    registry = Registry(settings.schema_registry_url)
    encoders = {
        topic: load_encoder(registry, settings.schema_dir, topic) for topic in (TRANSACTIONS_TOPIC, LABELS_TOPIC)
    }
    delivery = Delivery(settings)
    # The same file gives the same ids, so rows that are sent twice are recognised as the same.
    source = hashlib.sha256(file.name.encode()).hexdigest()[:8]
    number, labels, refused = 0, 0, Counter[str]()
    with tqdm(total=total, unit=" rows", desc=file.name) as bar:
        for rows in batches:
            transactions, row_labels = [], []
            for row in rows:
                number += 1
                draft = to_draft(row, fields, column_map, f"replay-{source}-{number:09d}")
                key = str(draft.get("user_id", "")).encode()
                try:
                    transaction = to_transaction(draft, column_map.time_format)
                    label = to_label(draft, transaction, column_map.time_format, column_map.label_delay_days)
                    transactions.append({"key": key, "value": encoders[TRANSACTIONS_TOPIC].encode(transaction)})
                    if label:
                        row_labels.append({"key": key, "value": encoders[LABELS_TOPIC].encode(label)})
                except SerializationError as error:
                    refused[str(error).partition(":")[0]] += 1
                    delivery.dead_letter_record(TRANSACTIONS_TOPIC, key, draft, error)
            while broken:
                number += 1
                line = broken.pop()
                refused["line"] += 1
                delivery.dead_letter_record(
                    TRANSACTIONS_TOPIC, None, {"line": line}, SerializationError(f"line: {line}")
                )
            delivery.send_batch(TRANSACTIONS_TOPIC, transactions)
            delivery.send_batch(LABELS_TOPIC, row_labels)
            labels += len(row_labels)
            bar.update(len(rows))
        delivery.flush()
    _print_report(number, labels, refused, delivery, fields, column_map)


def _print_report(
    rows: int, labels: int, refused: Counter[str], delivery: Delivery, fields: dict[str, str], column_map: ColumnMap
) -> None:
    sent = delivery.delivered - labels
    dead = delivery.counts.dead_lettered
    print(f"rows read: {rows:,}; sent: {sent:,}; labels sent: {labels:,}; dead-lettered: {dead:,}")
    for field, count in refused.most_common():
        print(f"  {field} does not fit: {count:,}")
    for reason, count in delivery.counts.by_reason.items():
        if reason != SerializationError.__name__:
            print(f"  {reason}: {count:,}")
    given = {*fields, *column_map.defaults}
    if absent := [f"{field}={value!r}" for field, value in DEFAULTS.items() if field not in given]:
        print(f"not in the file, default used: {', '.join(absent)}")
    if delivery.counts.dead_lettered:
        print("see them with: make dlq-show")

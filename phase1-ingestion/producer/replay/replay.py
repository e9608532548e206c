"""Replay: a CSV or Parquet file of real transactions through the same topics as the simulated ones.

Event times are kept, so everything downstream works as of the data's own time. Invalid rows become dead letters, which
can be repaired and sent back; the rest are sent.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fraud_common.avro import Encoder
from fraud_common.errors import SerializationError
from fraud_common.kafka import require_topics, wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, TRANSACTIONS
from tqdm import tqdm

from producer.delivery import Batch, Delivery
from producer.encoders import load_encoders
from producer.replay.coerce import DEFAULTS, to_label, to_transaction
from producer.replay.column_map import ColumnMap, Row, fields_of, load_map, to_draft
from producer.replay.files import open_rows
from producer.settings import Settings


@dataclass
class Counts:
    """What became of the rows."""

    rows: int = 0
    labels: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by field; `line` for a line with too few or many columns


class Replay:
    """Sends rows, and counts them."""

    def __init__(self, delivery: Delivery, encoders: dict[str, Encoder], column_map: ColumnMap, file_name: str) -> None:
        self._delivery = delivery
        self._encoders = encoders
        self._map = column_map
        # The same file gives the same ids, so rows that are sent twice are recognised as the same.
        self._source = hashlib.sha256(file_name.encode()).hexdigest()[:8]
        self.counts = Counts()

    def send_rows(self, rows: Iterable[Row], fields: dict[str, str]) -> None:
        """Send a batch of rows and their labels; the invalid ones become dead letters."""
        transactions: Batch = []
        labels: Batch = []
        for row in rows:
            self.counts.rows += 1
            draft = to_draft(row, fields, self._map, f"replay-{self._source}-{self.counts.rows:09d}")
            key = str(draft.get("user_id", "")).encode()
            try:
                transaction = to_transaction(draft, self._map.time_format)
                label = to_label(draft, transaction, self._map.time_format, self._map.label_delay_days)
                transactions.append({"key": key, "value": self._encoders[TRANSACTIONS].encode(transaction)})
                if label:
                    labels.append({"key": key, "value": self._encoders[LABELS].encode(label)})
            except SerializationError as error:
                self.counts.refused[str(error).partition(":")[0]] += 1
                self._delivery.dead_letter_record(TRANSACTIONS, key, draft, error)
        self._delivery.send_batch(TRANSACTIONS, transactions)
        self._delivery.send_batch(LABELS, labels)
        self.counts.labels += len(labels)

    def refuse_line(self, line: str) -> None:
        """Dead-letter a line that is not a row."""
        self.counts.rows += 1
        self.counts.refused["line"] += 1
        self._delivery.dead_letter_record(TRANSACTIONS, None, {"line": line}, SerializationError(f"line: {line}"))


def run_replay(settings: Settings, file: Path, map_file: Path | None) -> None:
    """Send the whole file and print what became of its rows.

    Raises:
        UserError: the file, the map or the stack is not as it must be; nothing was sent then.
    """
    column_map = load_map(map_file)
    source = open_rows(file, column_map.delimiter)
    fields = fields_of(column_map, source.columns, file)
    require_topics(wait_for_broker(settings), TRANSACTIONS, LABELS, DEAD_LETTERS)
    encoders = load_encoders(settings, SchemaRegistry(settings.schema_registry_url))
    delivery = Delivery(settings)
    replay = Replay(delivery, encoders, column_map, file.name)
    with tqdm(total=source.rows, unit=" rows", desc=file.name) as bar:
        for rows in source.batches:
            replay.send_rows(rows, fields)
            while source.broken:
                replay.refuse_line(source.broken.pop())
            bar.update(len(rows))
        delivery.flush()
    _print_report(replay.counts, delivery, given={*fields, *column_map.defaults})


def _print_report(counts: Counts, delivery: Delivery, given: set[str]) -> None:
    sent, dead = delivery.delivered - counts.labels, delivery.counts.dead_lettered
    print(f"rows read: {counts.rows:,}; sent: {sent:,}; labels sent: {counts.labels:,}; dead-lettered: {dead:,}")
    for name, count in counts.refused.most_common():
        print(f"  {name} does not fit: {count:,}")
    for reason, count in delivery.counts.by_reason.items():
        if reason != SerializationError.__name__:
            print(f"  {reason}: {count:,}")
    if absent := [f"{name}={value!r}" for name, value in DEFAULTS.items() if name not in given]:
        print(f"not in the file, default used: {', '.join(absent)}")
    if dead:
        print("see them with: make dlq-show")

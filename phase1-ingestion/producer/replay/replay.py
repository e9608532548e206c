"""Replay: a file of real transactions through the same topics as the simulated ones.

Event times are kept, so everything downstream works as of the data's own time. The whole file is read before anything
is sent. Rows that don't fit, or that Bronze would refuse, become dead letters; the rest are sent, each with its label.
"""

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_common.avro import Encoder, cents_to_bytes
from fraud_common.errors import SerializationError, UserError
from fraud_common.kafka import require_topics, wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, MAX_RECORD_BYTES, TRANSACTIONS
from tqdm import tqdm

from producer.delivery import Batch, Delivery
from producer.encoders import load_encoders
from producer.replay.column_map import ColumnMap, load_map
from producer.replay.letters import explain, letter_of_line, letter_of_row
from producer.replay.rows import Record, Row, Rows, read_rows
from producer.replay.summary import summarise
from producer.settings import Settings

# After so many messages, dead letters or bytes replay waits for their acknowledgement: the client's queue never fills,
# and what has to be sent again after a crash is little.
_UNSETTLED_MESSAGES = 70_000
_UNSETTLED_LETTERS = 10_000
_UNSETTLED_BYTES = 48_000_000
# What the client adds to a record.
_OVERHEAD_BYTES = 1_000


@dataclass(frozen=True)
class Message:
    """A payment with its label, encoded."""

    key: bytes
    payment: bytes
    label: bytes | None


@dataclass(frozen=True)
class Letter:
    """A dead letter."""

    key: bytes | None
    value: bytes
    reason: str
    error: str


class Messages:
    """Makes messages and dead letters of rows; it knows nothing of Kafka."""

    def __init__(self, encoders: dict[str, Encoder], rows: Rows, column_map: ColumnMap) -> None:
        self._encoders = encoders
        self._rows = rows
        self._constants = rows.mapping.constants
        self._template = {name: value for name, value in self._constants.items() if name != "fraud_type"}
        self._label_delay_days = column_map.label_delay_days
        self.portion = rows.portion

    def between(self, start: int, end: int) -> tuple[list[Message], list[Letter]]:
        """What the rows from position `start` to before `end`, both from 0, become: one or the other, each row."""
        messages: list[Message] = []
        letters = [self._letter_of_row(row) for row in self._rows.refused(start, end)]
        for number, fields in self._rows.sendable(start, end):
            try:
                messages.append(self._message(fields))
            except SerializationError as error:
                letters.append(self._letter_of_row(Row(number, fields, str(error), None, None, None)))
        first = max(start - self._rows.readable, 0)
        for line in self._rows.rejected[first : max(end - self._rows.readable, 0)]:
            value = letter_of_line(*line, self._rows.name)
            letters.append(Letter(None, value, SerializationError.__name__, f"line {line[0]}: {line[2]}"))
        return messages, letters

    def _message(self, fields: Record) -> Message:
        record = {**self._template, **fields}
        record["amount"] = cents_to_bytes(record["amount"])
        if isinstance(record["metadata"], str):
            record["metadata"] = _texts(record["metadata"])
        label = record.get("is_fraud")
        if label is not None:
            record.setdefault("fraud_type", self._constants.get("fraud_type"))
            encoded = self._encoders[LABELS].encode(record)
        payment = self._encoders[TRANSACTIONS].encode(record)
        if len(payment) > MAX_RECORD_BYTES - _OVERHEAD_BYTES:
            raise SerializationError(f"the record has {len(payment):,} bytes, more than the topic takes")
        return Message(record["user_id"].encode(), payment, None if label is None else encoded)

    def _letter_of_row(self, row: Row) -> Letter:
        reason, error = explain(row)
        user = row.fields.get("user_id")
        value = letter_of_row(row, self._constants, self._rows.name, self._label_delay_days)
        return Letter(user.encode() if user else None, value, reason, error)


@dataclass
class Progress:
    """What became of the rows so far."""

    start: int  # the position of the first row that this run sends, from 0
    size: int
    position: int = 0  # all rows before this were handed to the client
    settled: int = 0  # and before this, acknowledged by the broker
    payments: int = 0
    labels: int = 0
    letters: int = 0


class Sender:
    """Hands rows to the Kafka client, and waits for it where a row could not wait in the client's queue."""

    def __init__(self, delivery: Delivery, messages: Messages, progress: Progress, stopped: Callable[[], bool]) -> None:
        self._delivery = delivery
        self._messages = messages
        self._stopped = stopped
        self._unsettled_messages = self._unsettled_letters = self._unsettled_bytes = 0
        self.progress = progress
        progress.position = progress.settled = progress.start

    def send(self, bar: "tqdm[Any]") -> None:
        """Send all rows, or until a stop is asked for."""
        progress = self.progress
        while progress.position < progress.size and not self._stopped():
            end = min(progress.position + self._messages.portion, progress.size)
            self._send_portion(*self._messages.between(progress.position, end))
            bar.update(end - progress.position)
            progress.position = end
            if (
                self._unsettled_messages > _UNSETTLED_MESSAGES
                or self._unsettled_letters > _UNSETTLED_LETTERS
                or self._unsettled_bytes > _UNSETTLED_BYTES
            ):
                self._settle_unless_stopped()

    def settle(self) -> None:
        """Wait until the broker has everything, however long it is down."""
        waited = 0
        while not self._delivery.settle(1.0):
            waited += 1
            if waited == 10:
                tqdm.write("waiting for the broker to acknowledge what was sent; Ctrl-C to give up")
        self._note_settled()

    def _settle_unless_stopped(self) -> None:
        waited = 0
        while not self._stopped():
            if self._delivery.settle(1.0):
                self._note_settled()
                return
            waited += 1
            if waited == 10:
                tqdm.write("the broker does not answer; waiting for it")

    def _note_settled(self) -> None:
        self._unsettled_messages = self._unsettled_letters = self._unsettled_bytes = 0
        self.progress.settled = self.progress.position

    def _send_portion(self, messages: list[Message], letters: list[Letter]) -> None:
        payments: Batch = [{"key": message.key, "value": message.payment} for message in messages]
        labels: Batch = [{"key": message.key, "value": message.label} for message in messages if message.label]
        for some in _bounded(payments):
            self._delivery.send_batch(TRANSACTIONS, some)
        for some in _bounded(labels):
            self._delivery.send_batch(LABELS, some)
        for letter in letters:
            self._delivery.dead_letter(TRANSACTIONS, letter.key, letter.value, reason=letter.reason, error=letter.error)
        self._unsettled_messages += len(payments) + len(labels)
        self._unsettled_letters += len(letters)
        self._unsettled_bytes += sum(len(message["value"]) for message in (*payments, *labels))
        self._unsettled_bytes += sum(len(letter.value) for letter in letters)
        self.progress.payments += len(payments)
        self.progress.labels += len(labels)
        self.progress.letters += len(letters)


@dataclass(frozen=True)
class Command:
    """What a person typed, for the command that continues."""

    file: Path
    map_file: Path | None

    def continued(self, start: int) -> str:
        """The command that sends the rest."""
        names = {"FILE": os.environ.get("FILE", str(self.file)), "MAP": os.environ.get("MAP", str(self.map_file or ""))}
        arguments = [f"{name}={shlex.quote(value)}" for name, value in names.items() if value]
        return f"make replay {' '.join(arguments)} START={start + 1}"


def run_replay(settings: Settings, file: Path, map_file: Path | None, *, check: bool = False, start: int = 1) -> None:
    """Say what the file has, send it, and say what became of its rows.

    Args:
        map_file: the column map, or the name of a shipped one.
        check: send nothing.
        start: the number of the first row to send, as an interrupted run has said.

    Raises:
        UserError: the file, the map or the stack is not as it must be; nothing was sent then. Or the client could not
            continue; what was sent is reported before.
        SystemExit: on Ctrl-C or SIGTERM, after what was sent is delivered and reported.
    """
    column_map = load_map(map_file)
    encoders = {} if check else _connect(settings)
    print(f"reading {file.name}", flush=True)
    with read_rows(file, column_map) as rows:
        summary = summarise(rows)
        print("\n".join(summary.lines()), flush=True)
        if check:
            print("\n".join([*summary.next_steps(), "nothing was sent: CHECK=1"]))
            return
        if not 1 <= start <= rows.size + 1:
            raise UserError(f"START={start}: the file has rows 1 to {rows.size}")
        progress = Progress(start - 1, rows.size)
        messages = Messages(encoders, rows, column_map)
        _send(Delivery(settings), messages, progress, Command(file, map_file), rows.name)
        print("\n".join(summary.next_steps()))


def _connect(settings: Settings) -> dict[str, Encoder]:
    require_topics(wait_for_broker(settings), TRANSACTIONS, LABELS, DEAD_LETTERS)
    return load_encoders(settings, SchemaRegistry(settings.schema_registry_url))


def _send(delivery: Delivery, messages: Messages, progress: Progress, command: Command, name: str) -> None:
    with _signals() as signals:
        sender = Sender(delivery, messages, progress, lambda: bool(signals))
        try:
            with tqdm(total=progress.size, initial=progress.start, unit=" rows", desc=name) as bar:
                try:
                    sender.send(bar)
                finally:
                    sender.settle()
        except BaseException:
            _print_counts(progress, delivery)
            print(
                f"it ended early; the broker has rows 1 to {progress.settled:,} for certain, perhaps some more. What is"
                f" sent twice has the same id, and counts once. The rest: {command.continued(progress.settled)}",
                flush=True,
            )
            raise
    _print_counts(progress, delivery)
    if signals and progress.position < progress.size:
        rest = command.continued(progress.position)
        print(f"stopped after row {progress.position:,} of {progress.size:,}; the rest: {rest}", flush=True)
        raise SystemExit(128 + signals[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The first signal asks for a stop, the second is a KeyboardInterrupt."""
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_counts(progress: Progress, delivery: Delivery) -> None:
    rows = progress.position - progress.start
    dead = delivery.counts.dead_lettered
    sent = progress.payments - (dead - progress.letters)
    print(f"rows read: {rows:,}; sent: {sent:,}; labels sent: {progress.labels:,}; dead-lettered: {dead:,}")
    if dead:
        print("see them with: make dlq-show")


def _bounded(batch: Batch) -> Iterator[Batch]:
    """The batch in parts of a few MB."""
    part: Batch = []
    size = 0
    for message in batch:
        part.append(message)
        size += len(message["value"])
        if size > 4_000_000:
            yield part
            part, size = [], 0
    if part:
        yield part


def _texts(text: str) -> dict[str, str]:
    """A JSON object as Avro's map of texts."""
    values = json.loads(text)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}

"""Sends dead letters back to the topic that they were meant for, repaired on the way if asked to."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fraud_common.avro import Decoder, Encoder
from fraud_common.dead_letters import DeadLetter
from fraud_common.errors import SerializationError, UserError
from fraud_common.kafka import make_producer
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import LABELS, MAX_RECORD_BYTES, REDRIVEN, TOPICS, TRANSACTIONS

from producer.delivery import Delivery
from producer.dlq.backlog import read_backlog
from producer.encoders import load_encoders
from producer.replay.coerce import TRANSACTION_FIELDS, to_label, to_transaction
from producer.settings import Settings


@dataclass(frozen=True)
class Choice:
    """Which dead letters a person asks for."""

    reasons: list[str] = field(default_factory=list)
    offsets: list[str] = field(default_factory=list)  # PARTITION-OFFSET in the dead letter topic
    every: bool = False

    def of(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """The chosen ones among these.

        Raises:
            UserError: nothing is chosen, or there is no such reason or offset.
        """
        if not (self.reasons or self.offsets or self.every):
            raise UserError("say which: REASON=…, OFFSET=PARTITION-OFFSET, or ALL=1 (make dlq-show lists both)")
        existing = {reason for letter in letters for reason in letter.reasons}
        for reason in self.reasons:
            if reason not in existing:
                raise UserError(
                    f"REASON={reason}: no dead letter has it; there are {', '.join(sorted(existing)) or 'none'}"
                )
        for offset in self.offsets:
            if not any(offset == letter.coordinates for letter in letters):
                raise UserError(f"OFFSET={offset}: no such dead letter, or it was sent back already")
        return [letter for letter in letters if self._includes(letter)]

    def _includes(self, letter: DeadLetter) -> bool:
        return (
            self.every or letter.coordinates in self.offsets or any(reason in letter.reasons for reason in self.reasons)
        )


def parse_changes(changes: list[str]) -> dict[str, str]:
    """FIELD=VALUE texts as a dictionary.

    Raises:
        UserError: one is not such a text, or names no field of a transaction.
    """
    parsed = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in TRANSACTION_FIELDS:
            raise UserError(f"SET={change}: must be FIELD=VALUE with one of {', '.join(TRANSACTION_FIELDS)}")
        parsed[name] = value
    return parsed


def redrive(settings: Settings, choice: Choice, changes: list[str], *, go: bool) -> None:
    """Send the chosen dead letters back to their topic; without `go` only print what would be sent.

    A message keeps its key and value, and carries how often it has failed; if it fails again, it comes back with one
    more. Records that never became Avro, and those that are repaired (`changes`), are encoded again.

    Raises:
        UserError: the choice is empty or wrong, or the broker or the registry does not answer.
    """
    repairs = parse_changes(changes)
    backlog = read_backlog(settings).letters
    # Bronze and the scorer may both have refused the same message, and Bronze twice after a crash: it is sent once.
    chosen = list({letter.source: letter for letter in choice.of(backlog)}.values())
    letters = [letter for letter in chosen if letter.topic in TOPICS]
    for (topic, stage), count in Counter((letter.topic, letter.stage) for letter in letters).items():
        print(f"{count:,} from stage {stage}: {'sending' if go else 'would send'} back to {topic}")
    if skipped := len(chosen) - len(letters):
        print(f"{skipped:,} skipped: they name no topic of this platform")
    if not go:
        print("dry run: nothing was sent; add GO=1 to send")
        return
    delivery = _send(settings, letters, repairs)
    # Marked only after delivery: a crash before this sends them twice (Silver keeps one of each), but never loses one.
    sources = {letter.source for letter in letters}
    _mark_as_sent_back(settings, [letter for letter in backlog if letter.source in sources])
    print(f"sent back: {delivery.delivered:,}; failed again: {delivery.counts.dead_lettered:,}")


def _send(settings: Settings, letters: list[DeadLetter], repairs: dict[str, str]) -> Delivery:
    registry = SchemaRegistry(settings.schema_registry_url)
    encoders, decoder = load_encoders(settings, registry), Decoder(registry)
    delivery = Delivery(settings)
    for letter in letters:
        if letter.is_json or (repairs and letter.topic == TRANSACTIONS):
            _encode_again(letter, repairs, encoders, decoder, to=delivery)
        else:
            delivery.send_again(letter.topic, letter.key, letter.value or b"", letter.attempts)
    delivery.flush()
    return delivery


def _encode_again(
    letter: DeadLetter, repairs: dict[str, str], encoders: dict[str, Encoder], decoder: Decoder, *, to: Delivery
) -> None:
    record: dict[str, Any] = {}
    try:
        record = json.loads(letter.value or b"{}") if letter.is_json else decoder.decode(letter.value)
        transaction = to_transaction(record | repairs)
        value = encoders[letter.topic].encode(transaction)
        label = to_label(record, transaction)
    except SerializationError as error:
        # The original bytes: a repair that doesn't help must not replace them.
        to.dead_letter(
            letter.topic,
            letter.key,
            letter.value or b"",
            reason=type(error).__name__,
            error=str(error),
            attempts=letter.attempts + 1,
        )
        return
    key = transaction["user_id"].encode()
    to.send_again(letter.topic, key, value, letter.attempts)
    if label:  # a replayed row has its label with it
        to.send_again(LABELS, key, encoders[LABELS].encode(label), letter.attempts)


def _mark_as_sent_back(settings: Settings, letters: list[DeadLetter]) -> None:
    marks = make_producer(settings, MAX_RECORD_BYTES)
    now = datetime.now(UTC).isoformat(timespec="seconds").encode()
    for letter in letters:
        marks.produce(REDRIVEN, now, letter.coordinates.encode())
        marks.poll(0)
    marks.flush()

"""What is in the dead letter topic and why, and sending the repaired back."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from producer.replay.coerce import TRANSACTION_FIELDS, to_label, to_transaction
from fraud_common.dead_letters import DeadLetter, Decoder, read_dead_letters, read_topic
from producer.delivery import Delivery
from fraud_common.errors import SerializationError, UserError
from producer.kafka import TOPICS, consumer, producer, require_topics, wait_for_broker
from fraud_common.schema_registry import Registry, load_encoder
from producer.settings import (
    DEAD_LETTER_TOPIC,
    LABELS_TOPIC,
    MAX_RECORD_BYTES,
    REDRIVEN_TOPIC,
    TRANSACTIONS_TOPIC,
    Settings,
)
from fraud_common.avro import Encoder


def open_dead_letters(settings: Settings) -> tuple[list[DeadLetter], int]:
    """The dead letters that were not sent back yet, oldest first, and how many were.

    Raises:
        UserError: no broker answers, or the topics are missing.
    """
    require_topics(wait_for_broker(settings), DEAD_LETTER_TOPIC, REDRIVEN_TOPIC)
    client = consumer(settings)
    redriven = {(message.key() or b"").decode() for message in read_topic(client, REDRIVEN_TOPIC)}
    letters = list(read_dead_letters(client, DEAD_LETTER_TOPIC))
    client.close()
    waiting = [letter for letter in letters if letter.place not in redriven]
    return sorted(waiting, key=lambda letter: letter.headers.get("dlq.failed_at", "")), len(letters) - len(waiting)


def show(settings: Settings, last: int) -> None:
    """Print counts by stage and reason, and the newest `last` ones, decoded where possible."""
    letters, redriven = open_dead_letters(settings)
    console = Console(width=160)
    if not letters:
        console.print(f"{DEAD_LETTER_TOPIC}: none ({redriven:,} were sent back)")
        return
    counts = Counter((letter.stage, reason) for letter in letters for reason in letter.reasons)
    table = Table(title=f"{DEAD_LETTER_TOPIC}: {len(letters):,} (and {redriven:,} sent back)")
    for column in ("stage", "reason", "count"):
        table.add_column(column, justify="right" if column == "count" else "left")
    for (stage, reason), count in counts.most_common():
        table.add_row(stage, reason, f"{count:,}")
    console.print(table)
    decoder = Decoder(Registry(settings.schema_registry_url))
    for letter in letters[-last:] if last else []:
        console.print(
            f"[bold]{letter.place}[/]  {letter.headers.get('dlq.failed_at', '')}  {letter.stage}  "
            f"{', '.join(letter.reasons)}  for {letter.topic}, attempt {letter.attempts}",
            highlight=False,
        )
        console.print(f"    why:  {letter.headers.get('dlq.error', '')}", markup=False, highlight=False)
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


def choose(letters: list[DeadLetter], reasons: list[str], places: list[str], every: bool) -> list[DeadLetter]:
    """The dead letters that a person asked for.

    Raises:
        UserError: nothing was asked for, or there is no such reason or offset.
    """
    if not (reasons or places or every):
        raise UserError("say which: REASON=…, OFFSET=PARTITION-OFFSET, or ALL=1 (make dlq-show lists both)")
    for reason in reasons:
        if not any(reason in letter.reasons for letter in letters):
            raise UserError(
                f"REASON={reason}: no dead letter has it; there are {', '.join(_reasons(letters)) or 'none'}"
            )
    for place in places:
        if not any(place == letter.place for letter in letters):
            raise UserError(f"OFFSET={place}: no such dead letter, or it was sent back already")
    return [
        letter
        for letter in letters
        if every or letter.place in places or any(reason in letter.reasons for reason in reasons)
    ]


def _reasons(letters: list[DeadLetter]) -> list[str]:
    return sorted({reason for letter in letters for reason in letter.reasons})


def parse_changes(changes: list[str]) -> dict[str, str]:
    """FIELD=VALUE texts as a dictionary.

    Raises:
        UserError: one is no such text, or names no field of a transaction.
    """
    parsed = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or field not in TRANSACTION_FIELDS:
            raise UserError(f"SET={change}: must be FIELD=VALUE with one of {', '.join(TRANSACTION_FIELDS)}")
        parsed[field] = value
    return parsed


def redrive(
    settings: Settings, *, reasons: list[str], places: list[str], every: bool, changes: list[str], go: bool
) -> None:
    """Send the chosen dead letters back to their topic; without `go` only say which.

    A message keeps key and value and gets its attempt count; failing again, it comes back with one more. One that never
    became Avro, and one that is repaired on the way (`changes`), is encoded anew.

    Raises:
        UserError: the choice is empty or wrong, or the stack doesn't answer.
    """
    repairs = parse_changes(changes)
    letters, _ = open_dead_letters(settings)
    # Bronze and the scorer may both have refused the same message, and Bronze twice when it crashed: it goes back once.
    chosen = list({letter.source: letter for letter in choose(letters, reasons, places, every)}.values())
    known = [letter for letter in chosen if letter.topic in TOPICS]
    for (topic, stage), count in Counter((letter.topic, letter.stage) for letter in known).items():
        print(f"{count:,} from stage {stage} {'go' if go else 'would go'} back to {topic}")
    if skipped := len(chosen) - len(known):
        print(f"{skipped:,} name no topic of this platform and stay")
    if not go:
        print("dry run: nothing was sent; add GO=1 to send")
        return
    delivery = Delivery(settings)
    registry = Registry(settings.schema_registry_url)
    encoders = {
        topic: load_encoder(registry, settings.schema_dir, topic) for topic in (TRANSACTIONS_TOPIC, LABELS_TOPIC)
    }
    decoder = Decoder(registry)
    for letter in known:
        if letter.is_json or (repairs and letter.topic == TRANSACTIONS_TOPIC):
            _encode_again(delivery, letter, repairs, encoders, decoder)
        else:
            delivery.send_again(letter.topic, letter.key, letter.value or b"", letter.attempts)
    delivery.flush()
    # Only now: a crash before this sends them twice (Silver keeps one of each), never not at all.
    sources = {letter.source for letter in known}
    _mark_redriven(settings, [letter for letter in letters if letter.source in sources])
    print(f"sent back: {delivery.delivered:,}; failed again: {delivery.counts.dead_lettered:,}")


def _encode_again(
    delivery: Delivery, letter: DeadLetter, repairs: dict[str, str], encoders: dict[str, Encoder], decoder: Decoder
) -> None:
    record: dict[str, Any] = {}
    try:
        record = json.loads(letter.value or b"{}") if letter.is_json else decoder.decode(letter.value)
        transaction = to_transaction(record | repairs)
        value = encoders[letter.topic].encode(transaction)
        label = to_label(record, transaction)
    except SerializationError as error:
        # As it was: a repair that doesn't help must not replace the original.
        delivery.dead_letter(
            letter.topic,
            letter.key,
            letter.value or b"",
            type(error).__name__,
            str(error),
            attempts=letter.attempts + 1,
        )
        return
    key = transaction["user_id"].encode()
    delivery.send_again(letter.topic, key, value, letter.attempts)
    if label:  # a replayed row brings its label along
        delivery.send_again(LABELS_TOPIC, key, encoders[LABELS_TOPIC].encode(label), letter.attempts)


def _mark_redriven(settings: Settings, letters: list[DeadLetter]) -> None:
    marks = producer(settings, MAX_RECORD_BYTES)
    now = datetime.now(UTC).isoformat(timespec="seconds").encode()
    for letter in letters:
        marks.produce(REDRIVEN_TOPIC, now, letter.place.encode())
        marks.poll(0)
    marks.flush()

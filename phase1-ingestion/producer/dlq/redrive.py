"""Sends dead letters back to the topic that they were meant for, repaired on the way if asked to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fraud_common.dead_letters import DeadLetter
from fraud_common.errors import SerializationError
from fraud_common.kafka import make_producer
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import MAX_RECORD_BYTES, REDRIVEN

from producer.delivery import Delivery
from producer.dlq.backlog import Backlog
from producer.dlq.positions import PositionSet
from producer.dlq.repair import Changes, Repairer
from producer.dlq.selection import Plan, Selection
from producer.settings import Settings

# What is sent before it is marked as sent back: so many dead letters, or bytes.
_LETTERS_PER_MARK = 5_000
_BYTES_PER_MARK = 32_000_000


def redrive(settings: Settings, selection: Selection, changes: Changes, *, go: bool) -> None:
    """Send the selected dead letters back to their topic; without `go` only print what would be sent.

    A message keeps its key, its value and its own headers, and carries how often it has failed; if it fails again, it
    returns with one more. Only records that never became Avro and those that are repaired (`changes`) are encoded.

    Raises:
        UserError: the selection or a change is wrong, or the broker or the registry does not answer.
        KeyboardInterrupt: on Ctrl-C, after what was sent is delivered, marked and reported.
    """
    repairer = Repairer(SchemaRegistry(settings.schema_registry_url), changes)
    repairer.check()
    backlog = Backlog(settings)
    plan = Plan(selection, settings.dlq_max_attempts)
    for letter in backlog.letters("looking through dead letters"):
        plan.add(letter)
    plan.check()
    for line in plan.lines(go=go):
        print(line)
    if not plan.sources:
        print("nothing to send")
    elif not go:
        print("dry run: nothing was sent; add GO=1 to send")
    else:
        _send(backlog, plan, Sender(settings, repairer))


def _send(backlog: Backlog, plan: Plan, sender: "Sender") -> None:
    stop = threading.Event()
    try:
        with interrupt_sets(stop):
            for letter in backlog.letters("sending"):
                # All letters of a message are marked, whichever of them was selected.
                if letter.source in plan.sources:
                    sender.send(letter)
                if stop.is_set():
                    break
    finally:
        sender.settle()
        print(sender.summary())
    if stop.is_set():
        print("interrupted; the rest is still there: run the same command again")
        raise KeyboardInterrupt


@contextmanager
def interrupt_sets(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets the event, so that it interrupts between two letters; a second Ctrl-C interrupts at once."""
    usual = signal.getsignal(signal.SIGINT)

    def set_once(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, set_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@dataclass
class Sender:
    """Sends messages again, each once, and marks their letters as sent back once the broker has them."""

    settings: Settings
    repairer: Repairer
    _sent: PositionSet = field(default_factory=PositionSet)
    _unmarked: list[str] = field(default_factory=list)  # coordinates of letters whose message is in the queue
    _unmarked_bytes: int = 0

    def __post_init__(self) -> None:
        self._delivery = Delivery(self.settings)
        self._marks = make_producer(self.settings, MAX_RECORD_BYTES)

    def send(self, letter: DeadLetter) -> None:
        """Send the message of a dead letter, unless another letter of the same message was before this one."""
        if letter.source not in self._sent:
            self._send(letter)
            self._sent.add(letter.source)
        self._unmarked.append(letter.coordinates)
        self._unmarked_bytes += len(letter.value or b"")
        if len(self._unmarked) >= _LETTERS_PER_MARK or self._unmarked_bytes >= _BYTES_PER_MARK:
            self.settle()

    def settle(self) -> None:
        """Wait until the broker has everything, and mark the letters as sent back.

        Marked only then: a crash before this sends them twice (Silver keeps one of each), but never loses one.
        """
        self._delivery.flush()
        now = datetime.now(UTC).isoformat(timespec="seconds").encode()
        for coordinates in self._unmarked:
            self._marks.produce(REDRIVEN, now, coordinates.encode())
        self._marks.flush()
        self._unmarked.clear()
        self._unmarked_bytes = 0

    def summary(self) -> str:
        """What became of the messages, for a person."""
        counts = self._delivery.counts
        return f"sent back: {self._delivery.delivered:,}; failed again: {counts.dead_lettered:,}"

    def _send(self, letter: DeadLetter) -> None:
        if not self.repairer.applies_to(letter):
            self._delivery.send_again(
                letter.topic, letter.key, letter.value, attempts=letter.attempts, original=letter.original_headers
            )
            return
        try:
            messages = self.repairer.repair(letter)
        except SerializationError as error:
            # The original bytes: a repair that doesn't help must not replace them.
            self._delivery.dead_letter(
                letter.topic,
                letter.key,
                letter.value,
                reason=type(error).__name__,
                error=str(error),
                attempts=letter.attempts + 1,
                original=letter.original_headers,
            )
            return
        for message in messages:
            self._delivery.send_again(
                message.topic,
                message.key,
                message.value,
                attempts=letter.attempts,
                original=letter.original_headers,
            )

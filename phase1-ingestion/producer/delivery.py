"""Delivery: the only way from this phase into Kafka. A message is delivered, dead-lettered, or still in the queue.

When the client can no longer say what became of its messages, they are not dead-lettered: the program ends with a
UserError, and the next start finds out from Kafka what is missing.
"""

import base64
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from fraud_common.avro import to_json
from fraud_common.dead_letters import ATTEMPTS, Headers, dead_letter_headers
from fraud_common.errors import SerializationError, UserError
from fraud_common.kafka import make_producer
from fraud_common.topics import DEAD_LETTERS, MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES

from producer import metrics
from producer.settings import Settings

log = logging.getLogger("delivery")

# Messages for Delivery.send_batch: key, value and, if given, partition.
Batch = list[dict[str, Any]]
# Below the client's own limit: if the client refused a message, a later one could overtake it.
QUEUE_LIMIT = 90_000
# Below the client's queue.buffering.max.kbytes, for the same reason.
QUEUE_BYTES_LIMIT = 100_000_000

# The broker or the client refused this message for what it is: it is certainly not stored, and never will be.
MESSAGE_FAULTS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
# The topic can't take the message: certainly not stored, but the next one would fare the same.
TOPIC_FAULTS = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
    }
)


@dataclass
class Counts:
    """What became of the messages so far."""

    sent: int = 0
    failed: int = 0
    unknown: int = 0  # the client gave up without knowing whether the broker has them
    dead_lettered: int = 0
    lost: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)


class Delivery:
    """Sends batches in order, applies back-pressure, and sends what is refused to the dead letter topic."""

    def __init__(self, settings: Settings) -> None:
        # Only failures call back into Python; successes are counted as sent - failed - unknown - still queued.
        self._producer = make_producer(settings, MAX_RECORD_BYTES, **{"delivery.report.only.error": True})
        self._dead_letters = make_producer(settings, MAX_DEAD_LETTER_BYTES, **{"queue.buffering.max.messages": 20_000})
        self._reported_delivered = 0
        self._bytes_since_empty = 0  # no fewer than the queue has now
        self._end: UserError | None = None
        self.counts = Counts()

    def __len__(self) -> int:
        """Messages that the broker has not acknowledged yet."""
        return len(self._producer) + len(self._dead_letters)

    @property
    def delivered(self) -> int:
        """Messages that the broker has acknowledged in their own topic."""
        return self.counts.sent - self.counts.failed - self.counts.unknown - len(self._producer)

    def send_batch(self, topic: str, batch: Batch) -> None:
        """Queue the messages in order. If the queue is full, wait for the broker: back-pressure, never a loss.

        Raises:
            UserError: the client can't continue; see `poll`.
        """
        while len(self._producer) + len(batch) > QUEUE_LIMIT:
            self.poll(0.05)
        if not len(self._producer):
            self._bytes_since_empty = 0
        self._bytes_since_empty += sum(len(message["value"]) + len(message["key"] or b"") for message in batch)
        if self._bytes_since_empty > QUEUE_BYTES_LIMIT:
            self._send_one_by_one(topic, batch)
        else:
            queued = self._producer.produce_batch(topic, batch, on_delivery=self._on_failure)
            self._count_sent(topic, len(batch))
            if queued < len(batch):
                for message in batch:
                    if error := message.get("_error"):
                        self._failed(topic, message["key"], message["value"], error)
        self.poll(0)

    def _send_one_by_one(self, topic: str, batch: Batch) -> None:
        """Queue messages that may not fit together: each waits for its place, so that none overtakes another."""
        for message in batch:
            while True:
                try:
                    self._producer.produce(topic, **message, on_delivery=self._on_failure)
                    self._count_sent(topic, 1)
                    break
                except BufferError:
                    self.poll(0.05)
                except KafkaException as error:
                    self._count_sent(topic, 1)
                    self._failed(topic, message["key"], message["value"], error.args[0])
                    break

    def _count_sent(self, topic: str, count: int) -> None:
        self.counts.sent += count
        metrics.SENT.labels(topic).inc(count)

    def send_again(
        self, topic: str, key: bytes | None, value: bytes | None, *, attempts: int, original: Headers | None = None
    ) -> None:
        """Queue a dead letter for its topic, with the number of its failures so far; one more failure adds one.

        A topic that can't take it is that letter's fault: the next one may be for another topic.

        Args:
            attempts: how many times it has failed.
            original: the message's own headers.

        Raises:
            UserError: the client can't continue; see `poll`.
        """

        def on_failure(error: KafkaError | None, _: Message | None) -> None:
            if error is not None:
                faults = MESSAGE_FAULTS | TOPIC_FAULTS
                self._failed(topic, key, value, error, faults=faults, attempts=attempts + 1, original=original)

        headers: Headers = [*(original or []), (ATTEMPTS, str(attempts).encode())]
        self._count_sent(topic, 1)
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=on_failure)
                break
            except BufferError:
                self.poll(0.05)
            except KafkaException as error:
                on_failure(error.args[0], None)
                break
        self.poll(0)

    def dead_letter(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        reason: str,
        error: str,
        attempts: int = 1,
        original: Headers | None = None,
    ) -> None:
        """Send a message that could not go to `topic` to the dead letter topic.

        Args:
            topic: where the message was to go.
            reason: the class of the error.
            error: a sentence for a person.
            attempts: how many times it has failed, this one included.
            original: the message's own headers.
        """
        headers = dead_letter_headers(
            stage="producer", reasons=[reason], error=error, topic=topic, attempts=attempts, original=original
        )
        self.counts.dead_lettered += 1
        self.counts.by_reason[reason] = self.counts.by_reason.get(reason, 0) + 1
        metrics.DEAD_LETTERED.labels(topic, reason).inc()
        while True:
            try:
                self._dead_letters.produce(DEAD_LETTERS, value, key, headers=headers, on_delivery=self._on_dead_letter)
                break
            except BufferError:
                self.poll(0.05)
            except KafkaException as refusal:  # larger than even the dead letter topic accepts
                self._keep_in_log(key, value, refusal.args[0].str())
                break

    def dead_letter_record(
        self, topic: str, key: bytes | None, record: dict[str, Any], error: SerializationError
    ) -> None:
        """Dead-letter a record that never became Avro, as its JSON text."""
        self.dead_letter(topic, key, to_json(record), reason=type(error).__name__, error=str(error))

    def poll(self, seconds: float) -> None:
        """Let the client report, and wait up to `seconds` for it.

        Raises:
            UserError: the client doesn't know what became of some messages, or the topic is gone. They are not
                dead-lettered: the broker may have them.
        """
        self._let_report(seconds)
        if self._end is not None:
            self._flush_dead_letters()
            raise self._end

    def settle(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether the broker has acknowledged everything.

        Raises:
            UserError: the client can't continue; see `poll`.
        """
        # Not by the client's flush(): it calls back into Python with the exception of a fatal error pending.
        deadline = time.monotonic() + seconds
        while len(self) and time.monotonic() < deadline:
            self.poll(0.01)
        return not len(self)

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything, however long it is down.

        Raises:
            UserError: the client can't continue; see `poll`.
        """
        while not self.settle(1.0):
            pass
        self.poll(0)  # the last reports

    def _let_report(self, seconds: float) -> None:
        self._until_fatal(self._producer.poll, seconds)
        self._until_fatal(self._dead_letters.poll, 0)
        delivered = self.delivered
        metrics.DELIVERED.inc(max(0, delivered - self._reported_delivered))
        self._reported_delivered = max(delivered, self._reported_delivered)
        metrics.QUEUE_DEPTH.set(len(self))

    def _until_fatal(self, call: Callable[[float], int], seconds: float) -> None:
        try:
            call(seconds)
        except KafkaException as error:  # the client raises only what is fatal to it
            self._end_with("kafka", error.args[0])

    def _flush_dead_letters(self) -> None:
        while len(self._dead_letters):
            self._until_fatal(self._dead_letters.poll, 0.01)

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed(message.topic() or "", message.key(), message.value(), error)

    def _failed(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        error: KafkaError,
        *,
        faults: frozenset[int] = MESSAGE_FAULTS,
        attempts: int = 1,
        original: Headers | None = None,
    ) -> None:
        """Dead-letter a message that is certainly not stored; for any other error, end without it."""
        metrics.FAILED.labels(topic, error.name()).inc()
        if error.code() in faults:
            self.counts.failed += 1
            self.dead_letter(
                topic, key, value, reason=error.name(), error=error.str(), attempts=attempts, original=original
            )
        else:
            self.counts.unknown += 1
            self._end_with(topic, error)

    def _end_with(self, where: str, error: KafkaError) -> None:
        """The first error is the cause; what follows is its consequence."""
        if self._end is not None:
            return
        if error.code() in TOPIC_FAULTS:
            step = "the topic is gone or can't be written: docker compose run --rm ingestion-init"
        else:
            step = (
                "some messages may or may not be stored; start again: the simulator resumes after what Kafka has, "
                "rows of a file keep their ids"
            )
        self._end = UserError(f"{where}: {error.name()}: {error.str()}; {step}")

    def _on_dead_letter(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._keep_in_log(message.key(), message.value(), error.str())

    def _keep_in_log(self, key: bytes | None, value: bytes | None, error: str) -> None:
        """The last resort: what the dead letter topic refuses can be recovered from the log."""
        self.counts.lost += 1
        log.error(
            "the dead letter topic refuses a message; this line has its key and value",
            extra={
                "error": error,
                "key": base64.b64encode(key or b"").decode(),
                "value": base64.b64encode(value or b"").decode(),
            },
        )

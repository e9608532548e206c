"""Delivery: the only way from this phase into Kafka. A message is delivered, dead-lettered, or still in the queue."""

import base64
import logging
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from fraud_common.avro import to_json
from fraud_common.dead_letters import ATTEMPTS, Headers, dead_letter_headers
from fraud_common.errors import SerializationError
from fraud_common.kafka import make_producer
from fraud_common.topics import DEAD_LETTERS, MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES

from producer import metrics
from producer.settings import Settings

log = logging.getLogger("delivery")

# Messages for Delivery.send_batch: key, value and, if given, partition.
Batch = list[dict[str, Any]]
# Below the client's own limit: if the client refused a message, a later one could overtake it.
QUEUE_LIMIT = 90_000


@dataclass
class Counts:
    """What became of the messages so far."""

    sent: int = 0
    failed: int = 0
    dead_lettered: int = 0
    lost: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)


class Delivery:
    """Sends batches in order, applies back-pressure, and sends what is refused to the dead letter topic."""

    def __init__(self, settings: Settings) -> None:
        # Only failures call back into Python; successes are counted as sent - failed - still queued.
        self._producer = make_producer(settings, MAX_RECORD_BYTES, **{"delivery.report.only.error": True})
        self._dead_letters = make_producer(settings, MAX_DEAD_LETTER_BYTES, **{"queue.buffering.max.messages": 20_000})
        self._reported_delivered = 0
        self.counts = Counts()

    def __len__(self) -> int:
        """Messages that the broker has not acknowledged yet."""
        return len(self._producer) + len(self._dead_letters)

    @property
    def delivered(self) -> int:
        """Messages that the broker has acknowledged in their own topic."""
        return self.counts.sent - self.counts.failed - len(self._producer)

    def send_batch(self, topic: str, batch: Batch) -> None:
        """Queue the messages in order. If the queue is full, wait for the broker: back-pressure, never a loss."""
        while len(self._producer) + len(batch) > QUEUE_LIMIT:
            self.poll(0.05)
        queued = self._producer.produce_batch(topic, batch, on_delivery=self._on_failure)
        self.counts.sent += len(batch)
        metrics.SENT.labels(topic).inc(len(batch))
        if queued < len(batch):
            for message in batch:
                if error := message.get("_error"):
                    self._refused(topic, message.get("key"), message.get("value"), error)
        self.poll(0)

    def send_again(self, topic: str, key: bytes | None, value: bytes, attempts: int) -> None:
        """Queue a dead letter for its topic, with the number of its failures so far; one more failure adds one."""
        while len(self._producer) >= QUEUE_LIMIT:
            self.poll(0.05)
        self.counts.sent += 1
        metrics.SENT.labels(topic).inc()
        headers: Headers = [(ATTEMPTS, str(attempts).encode())]

        def on_failure(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._refused(topic, key, value, error, attempts=attempts + 1)

        try:
            self._producer.produce(topic, value, key, headers=headers, on_delivery=on_failure)
        except KafkaException as error:
            self._refused(topic, key, value, error.args[0], attempts=attempts + 1)

    def dead_letter(
        self, topic: str, key: bytes | None, value: bytes, *, reason: str, error: str, attempts: int = 1
    ) -> None:
        """Send a message that could not go to `topic` to the dead letter topic.

        Args:
            topic: where the message was to go.
            reason: the class of the error.
            error: a sentence for a person.
            attempts: how many times it has failed, this one included.
        """
        headers = dead_letter_headers(stage="producer", reasons=[reason], error=error, topic=topic, attempts=attempts)
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
        """Let the client report, and wait up to `seconds` for it."""
        self._producer.poll(seconds)
        self._dead_letters.poll(0)
        delivered = self.delivered
        metrics.DELIVERED.inc(max(0, delivered - self._reported_delivered))
        self._reported_delivered = max(delivered, self._reported_delivered)
        metrics.QUEUE_DEPTH.set(len(self))

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything, however long it is down."""
        while len(self):
            self._producer.flush(1.0)
            self._dead_letters.flush(1.0)
            self.poll(0)
        self.poll(0)

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused(message.topic() or "", message.key(), message.value(), error)

    def _refused(
        self, topic: str, key: bytes | None, value: bytes | None, error: KafkaError, *, attempts: int = 1
    ) -> None:
        self.counts.failed += 1
        metrics.FAILED.labels(topic, error.name()).inc()
        self.dead_letter(topic, key, value or b"", reason=error.name(), error=error.str(), attempts=attempts)

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

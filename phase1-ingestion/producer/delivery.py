"""Delivery: the only way from this phase into Kafka. A message is delivered, dead-lettered, or still in the queue."""

import base64
import logging
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from producer import metrics
from fraud_common.dead_letters import Headers, dead_letter_headers
from fraud_common.errors import SerializationError
from producer.kafka import producer
from producer.settings import DEAD_LETTER_TOPIC, MAX_DEAD_LETTER_BYTES, MAX_RECORD_BYTES, Settings
from fraud_common.avro import to_json

log = logging.getLogger("delivery")

# A message for Delivery.send_batch: key, value and, if given, partition.
Batch = list[dict[str, Any]]
# Below the client's own limit, so that it never has to refuse a message that would overtake those before it.
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
    """Sends batches in order, applies back-pressure, and takes what is refused to the dead letter topic."""

    def __init__(self, settings: Settings) -> None:
        # Only failures call back into Python; successes are counted as sent - failed - still queued.
        self._producer = producer(settings, MAX_RECORD_BYTES, **{"delivery.report.only.error": True})
        self._dead_letters = producer(settings, MAX_DEAD_LETTER_BYTES, **{"queue.buffering.max.messages": 20_000})
        self._reported_delivered = 0
        self.counts = Counts()

    def __len__(self) -> int:
        """Messages that the broker hasn't acknowledged yet."""
        return len(self._producer) + len(self._dead_letters)

    @property
    def delivered(self) -> int:
        """Messages that the broker has acknowledged in their own topic."""
        return self.counts.sent - self.counts.failed - len(self._producer)

    def send_batch(self, topic: str, batch: Batch) -> None:
        """Queue the messages in order. Where the queue is full, wait for the broker: back-pressure, never a loss."""
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
        """Queue a dead letter for its topic, with how many times it has failed; failing again adds one."""
        while len(self._producer) >= QUEUE_LIMIT:
            self.poll(0.05)
        self.counts.sent += 1
        metrics.SENT.labels(topic).inc()
        headers: Headers = [("dlq.attempts", str(attempts).encode())]

        def on_failure(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._refused(topic, key, value, error, attempts + 1)

        try:
            self._producer.produce(topic, value, key, headers=headers, on_delivery=on_failure)
        except KafkaException as error:
            self._refused(topic, key, value, error.args[0], attempts + 1)

    def dead_letter(
        self, topic: str, key: bytes | None, value: bytes, reason: str, error: str, *, attempts: int = 1
    ) -> None:
        """Send a message that could not go to `topic` to the dead letter topic, with why."""
        headers = dead_letter_headers(stage="producer", reasons=[reason], error=error, topic=topic, attempts=attempts)
        self.counts.dead_lettered += 1
        self.counts.by_reason[reason] = self.counts.by_reason.get(reason, 0) + 1
        metrics.DEAD_LETTERED.labels(topic, reason).inc()
        while True:
            try:
                self._dead_letters.produce(
                    DEAD_LETTER_TOPIC, value, key, headers=headers, on_delivery=self._on_dead_letter
                )
                break
            except BufferError:
                self.poll(0.05)
            except KafkaException as refusal:  # larger than even the dead letter topic takes
                self._keep_in_log(key, value, refusal.args[0].str())
                break

    def dead_letter_record(
        self, topic: str, key: bytes | None, record: dict[str, Any], error: SerializationError, *, attempts: int = 1
    ) -> None:
        """Dead-letter a record that never became Avro: its JSON text stands for the original bytes."""
        self.dead_letter(topic, key, to_json(record), type(error).__name__, str(error), attempts=attempts)

    def poll(self, seconds: float) -> None:
        """Let the client report, and wait up to `seconds` for it."""
        self._producer.poll(seconds)
        self._dead_letters.poll(0)
        delivered = self.delivered
        metrics.DELIVERED.inc(max(0, delivered - self._reported_delivered))
        self._reported_delivered = max(delivered, self._reported_delivered)
        metrics.QUEUE_DEPTH.set(len(self))

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything, however long it is away."""
        while len(self):
            self._producer.flush(1.0)
            self._dead_letters.flush(1.0)
            self.poll(0)
        self.poll(0)

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused(message.topic() or "", message.key(), message.value(), error)

    def _refused(
        self, topic: str, key: bytes | None, value: bytes | None, error: KafkaError, attempts: int = 1
    ) -> None:
        self.counts.failed += 1
        metrics.FAILED.labels(topic, error.name()).inc()
        self.dead_letter(topic, key, value or b"", error.name(), error.str(), attempts=attempts)

    def _on_dead_letter(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._keep_in_log(message.key(), message.value(), error.str())

    def _keep_in_log(self, key: bytes | None, value: bytes | None, why: str) -> None:
        """The last resort, so that even what the dead letter topic refuses can be recovered."""
        self.counts.lost += 1
        log.error(
            "the dead letter topic refuses a message; it is kept in this line",
            extra={
                "fields": {
                    "error": why,
                    "key": base64.b64encode(key or b"").decode(),
                    "value": base64.b64encode(value or b"").decode(),
                }
            },
        )

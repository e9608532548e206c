"""The scorer's loop: a batch of payments, their scores, both acknowledged by Kafka, then the offsets are committed.

Upstream is transactions.raw; downstream are the consumers of transactions.scored. A crash at any point repeats a batch
and never skips one: every payment is scored at least once, and those of one cardholder in their order.
"""

import logging
import threading
import time
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from fraud_common.avro import Decoder, Encoder, latest_encoder
from fraud_common.dead_letters import Headers
from fraud_common.errors import SerializationError, Stopping, UserError
from fraud_common.kafka import (
    Partition,
    committed_offsets,
    kafka_errors,
    make_group_consumer,
    readable,
    require_topics,
    wait_for_broker,
    watch_lag,
)
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import SCORED

from scorer import metrics
from scorer.api import Request, ScoringApi
from scorer.kafka import make_consumer, make_producer, pin_start
from scorer.records import InvalidPayment, Refusal, headers_of_dead_letter, to_request, to_score
from scorer.settings import ScorerSettings

log = logging.getLogger("scorer")

SECONDS_BETWEEN_LINES = 60.0
# After SIGTERM, the broker has this long to acknowledge what was sent.
STOP_SECONDS = 15.0


def run(settings: ScorerSettings, stop: threading.Event) -> None:
    """Score until the event is set; the batch in hand is finished.

    Raises:
        UserError: a topic or a schema is missing, no broker or registry answers, or Kafka refuses a record.
    """
    topics = (settings.transactions_topic, settings.scored_topic, settings.dead_letter_topic)
    partitions = require_topics(wait_for_broker(settings), *topics)
    registry = SchemaRegistry(settings.schema_registry_url)
    # The schema is registered under this topic's name, even if the scores go to another one.
    encoder = registry.within(settings.connect_timeout_seconds, lambda: latest_encoder(registry, SCORED))
    with kafka_errors():
        scorer = Scorer(settings, Decoder(registry), encoder, stop)
        scorer.run(partitions[settings.transactions_topic])


class Scorer:
    """One run of the scorer."""

    def __init__(self, settings: ScorerSettings, decoder: Decoder, encoder: Encoder, stop: threading.Event) -> None:
        self.settings = settings
        self._stop = stop
        self._decoder = decoder
        self._encoder = encoder
        self._api = ScoringApi(settings.api_url, settings.api_key, stop)
        self._producer = make_producer(settings)
        self._consumer = make_consumer(settings)
        self._failures: list[str] = []
        # The next offset to be scored of each partition that is assigned to this process.
        self.positions: dict[Partition, int] = {}
        self.scored = 0
        self.dead_letters = 0

    def run(self, partitions: int) -> None:
        """Score until SIGTERM; the topic has this many partitions."""
        settings = self.settings
        pin_start(self._consumer, settings, partitions)
        self._consumer.subscribe([settings.transactions_topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        # A client of its own: one that another thread polls answers late.
        ends = make_group_consumer(settings, settings.scorer_group)
        lag = watch_lag(ends, self.positions, _report_lag, self._stop)
        metrics.RUNNING.set(1)
        log.info("scoring %s as group %s", settings.transactions_topic, settings.scorer_group)
        logged_at, logged = time.monotonic(), 0
        try:
            while not self._stop.is_set():
                batch = readable(self._consumer.consume(settings.scorer_batch, settings.scorer_wait_ms / 1000))
                if batch:
                    with metrics.BATCH_SECONDS.time():
                        self.process(batch)
                if (passed := time.monotonic() - logged_at) >= SECONDS_BETWEEN_LINES:
                    log.info("%.0f payments/s scored", (self.scored - logged) / passed)
                    logged_at, logged = time.monotonic(), self.scored
        except Stopping as reason:
            log.info("stopping without an answer to the batch in hand; the next start scores it: %s", reason)
        finally:
            metrics.RUNNING.set(0)
            self._stop.set()
            lag.join()
            ends.close()
            self._consumer.close()
            log.info("stopped after %d scored and %d dead letters", self.scored, self.dead_letters)

    def process(self, batch: list[Message]) -> None:
        """Score, publish, and once Kafka has acknowledged all of it, commit.

        Raises:
            Stopping: SIGTERM arrived while a service did not answer; nothing is committed.
            UserError: Kafka refuses a score or a dead letter; nothing is committed.
        """
        payments, refused = requests_of(batch, self._decoder, self._stop)
        answers = self._api.score([request for _, request in payments])
        scored_at = datetime.now(UTC)
        scored: list[Message] = []
        for (message, request), answer in zip(payments, answers, strict=True):
            if isinstance(answer, Refusal):
                refused.append((message, answer))
                continue
            value = self._encoder.encode(to_score(request, answer, scored_at))
            self._send(self.settings.scored_topic, request["user_id"].encode(), value, None)
            scored.append(message)
        for message, refusal in refused:
            headers = headers_of_dead_letter(message, refusal)
            self._send(self.settings.dead_letter_topic, message.key(), message.value(), headers)
        self._wait_for_acknowledgements()
        self._commit(batch)
        self._count(scored, refused)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = committed_offsets(consumer, partitions)
        self.positions.update({(each.topic, each.partition): max(0, each.offset) for each in committed})
        log.info("partitions %s", ", ".join(f"{each.partition} from {each.offset}" for each in committed) or "none")

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self.positions.pop((each.topic, each.partition), None)
            metrics.LAG.remove(each.partition)

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
        self._producer.produce(topic, value, key, headers=headers or [], on_delivery=self._on_delivery)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failures.append(f"{message.topic()}: the broker refuses a record: {error.str()}")

    def _wait_for_acknowledgements(self) -> None:
        give_up_at: float | None = None
        while self._producer.flush(0.5):
            if self._stop.is_set():
                give_up_at = give_up_at or time.monotonic() + STOP_SECONDS
                if time.monotonic() > give_up_at:
                    raise Stopping("the broker does not acknowledge")
        if self._failures:
            raise UserError(next(iter(self._failures)))

    def _commit(self, batch: list[Message]) -> None:
        reached: dict[Partition, int] = {}
        for message in batch:
            reached[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        try:
            offsets = [TopicPartition(*partition, offset) for partition, offset in reached.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The next commit includes these; after a rebalance another process scores this batch again.
            log.warning("offsets not committed: %s", error.args[0].str())
        self.positions.update((partition, at) for partition, at in reached.items() if partition in self.positions)

    def _count(self, scored: list[Message], refused: list[tuple[Message, Refusal]]) -> None:
        now_ms = time.time() * 1000
        for message in scored:
            _, arrived_ms = message.timestamp()
            metrics.EVENT_DELAY.observe(max(0.0, now_ms - arrived_ms) / 1000)
        self.scored += len(scored)
        metrics.SCORED.inc(len(scored))
        self.dead_letters += len(refused)
        for _, refusal in refused:
            for reason in refusal.reasons:
                metrics.DEAD_LETTERS.labels(reason).inc()
        if refused:
            message, refusal = next(iter(refused))
            log.warning(
                "%d of %d messages can't be scored and went to %s; the first, %s-%s: %s",
                len(refused),
                len(refused) + len(scored),
                self.settings.dead_letter_topic,
                message.partition(),
                message.offset(),
                refusal.error[:300],
            )


def requests_of(
    batch: list[Message], decoder: Decoder, stop: threading.Event
) -> tuple[list[tuple[Message, Request]], list[tuple[Message, Refusal]]]:
    """The API's requests for a batch of messages, and the messages that can't be scored, with the reason.

    Raises:
        Stopping: SIGTERM arrived while the registry did not answer.
    """
    payments: list[tuple[Message, Request]] = []
    refused: list[tuple[Message, Refusal]] = []
    for message in batch:
        try:
            record = decoder.decode_when_answered(message.value(), stop)
            payments.append((message, to_request(record, _arrival(message))))
        except InvalidPayment as error:
            refused.append((message, Refusal(error.violations, f"the payment violates {error}")))
        except SerializationError as error:
            refused.append((message, Refusal([type(error).__name__], str(error))))
    return payments, refused


def _arrival(message: Message) -> datetime:
    _, arrived_ms = message.timestamp()
    return datetime.fromtimestamp(arrived_ms / 1000, UTC)


def _report_lag(partition: Partition, lag: int) -> None:
    _, number = partition
    metrics.LAG.labels(number).set(lag)

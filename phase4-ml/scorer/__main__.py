"""The scorer's loop: a batch of payments, their scores, both acknowledged by Kafka, then the offsets are committed.

Upstream is transactions.raw; downstream is whoever acts on transactions.scored. A crash at any point repeats a batch
and never skips one: every payment is scored at least once, in the order of its cardholder.
"""

import logging
import threading
import time
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fraud_common.errors import ServiceError, Stopping
from fraud_common.kafka import readable, wait_for_topics
from fraud_common.kafka import Place, watch_lag
from fraud_common.schema_registry import Decoder, Registry, within
from scorer import metrics
from scorer.api import Request, ScoringApi
from scorer.kafka import make_consumer, make_producer, pin_start
from scorer.records import Refusal, dead_letter_headers, to_request, to_score
from scorer.settings import SCORED_SUBJECT, ScorerSettings
from fraud_common.service import run_service
from fraud_common.avro import SerializationError, encode

log = logging.getLogger("scorer")

SECONDS_BETWEEN_LINES = 60.0
# Once SIGTERM has come, the broker has so long to acknowledge what is under way.
STOP_SECONDS = 15.0


class Scorer:
    """One run of the scorer."""

    def __init__(self, settings: ScorerSettings, stop: threading.Event) -> None:
        self.settings = settings
        self._stop = stop
        topics = [settings.transactions_topic, settings.scored_topic, settings.dead_letter_topic]
        partitions = wait_for_topics(settings.kafka_bootstrap_servers, topics, settings.connect_timeout_seconds)
        registry = Registry(settings.schema_registry_url)
        self._schema_id, self._schema = within(
            settings.connect_timeout_seconds, lambda: registry.latest(SCORED_SUBJECT)
        )
        self._decoder = Decoder(registry)
        self._api = ScoringApi(settings.api_url, settings.api_key, stop)
        self._producer = make_producer(settings)
        self._consumer = make_consumer(settings)
        self._failures: list[str] = []
        pin_start(self._consumer, settings, partitions[settings.transactions_topic])
        # The next offset to be scored of each partition that is this scorer's.
        self.positions: dict[Place, int] = {}
        self.scored = 0
        self.dead_letters = 0

    def run(self) -> None:
        """Score until SIGTERM; the batch in hand is finished."""
        settings = self.settings
        self._consumer.subscribe([settings.transactions_topic], on_assign=self._on_assign, on_revoke=self._on_revoke)
        lag = watch_lag(self._consumer, self.positions, _tell_lag, self._stop)
        metrics.RUNNING.set(1)
        log.info("scoring %s as group %s", settings.transactions_topic, settings.scorer_group)
        told_at, told = time.monotonic(), 0
        try:
            while not self._stop.is_set():
                batch = readable(self._consumer.consume(settings.scorer_batch, settings.scorer_wait_ms / 1000))
                if batch:
                    with metrics.BATCH_SECONDS.time():
                        self.process(batch)
                if (passed := time.monotonic() - told_at) >= SECONDS_BETWEEN_LINES:
                    log.info("%.0f payments/s scored", (self.scored - told) / passed)
                    told_at, told = time.monotonic(), self.scored
        except Stopping as reason:
            log.info("stopping without an answer to the batch in hand, which the next start takes up: %s", reason)
        finally:
            metrics.RUNNING.set(0)
            self._stop.set()
            lag.join()
            self._consumer.close()
            log.info("stopped after %d scored and %d dead letters", self.scored, self.dead_letters)

    def process(self, batch: list[Message]) -> None:
        """Score, publish, and once Kafka has acknowledged all of it, commit.

        Raises:
            Stopping: SIGTERM came while somebody did not answer; nothing is committed.
            ServiceError: Kafka refuses a score or a dead letter; nothing is committed.
        """
        payments: list[tuple[Message, Request]] = []
        refused: list[tuple[Message, Refusal]] = []
        for message in batch:
            try:
                payments.append((message, to_request(self._decoder.decode_when_answered(message.value(), self._stop))))
            except SerializationError as error:
                refused.append((message, Refusal([type(error).__name__], str(error))))
        answers = self._api.score([request for _, request in payments])
        scored_at = datetime.now(UTC)
        scored: list[Message] = []
        for (message, request), answer in zip(payments, answers, strict=True):
            if isinstance(answer, Refusal):
                refused.append((message, answer))
                continue
            value = encode(to_score(request, answer, scored_at), self._schema, self._schema_id)
            self._send(self.settings.scored_topic, request["user_id"].encode(), value, None)
            scored.append(message)
        for message, refusal in refused:
            headers = dead_letter_headers(message, refusal)
            self._send(self.settings.dead_letter_topic, message.key(), message.value(), headers)
        self._wait_for_acknowledgements()
        self._commit(batch)
        self._count(scored, refused)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = consumer.committed(partitions, timeout=30)
        self.positions.update({(place.topic, place.partition): max(0, place.offset) for place in committed})
        log.info("partitions %s", ", ".join(f"{place.partition} from {place.offset}" for place in committed) or "none")

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self.positions.pop((place.topic, place.partition), None)
            metrics.LAG.remove(place.partition)

    def _send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, str | bytes | None]] | None
    ) -> None:
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
            raise ServiceError(self._failures[0])

    def _commit(self, batch: list[Message]) -> None:
        positions: dict[Place, int] = {}
        for message in batch:
            positions[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        try:
            self._consumer.commit(
                offsets=[TopicPartition(*place, offset) for place, offset in positions.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            # The next commit says the same and more; after a rebalance somebody scores this batch again.
            log.warning("offsets not committed: %s", error.args[0].str())
        self.positions.update((place, at) for place, at in positions.items() if place in self.positions)

    def _count(self, scored: list[Message], refused: list[tuple[Message, Refusal]]) -> None:
        now_ms = time.time() * 1000
        for message in scored:
            metrics.EVENT_DELAY.observe(max(0.0, now_ms - message.timestamp()[1]) / 1000)
        self.scored += len(scored)
        metrics.SCORED.inc(len(scored))
        self.dead_letters += len(refused)
        for _, refusal in refused:
            for reason in refusal.reasons:
                metrics.DEAD_LETTERS.labels(reason).inc()
        if refused:
            message, refusal = refused[0]
            log.warning(
                "%d of %d messages can't be scored and went to %s; the first, %s-%s: %s",
                len(refused),
                len(refused) + len(scored),
                self.settings.dead_letter_topic,
                message.partition(),
                message.offset(),
                refusal.error[:300],
            )


def _tell_lag(place: Place, lag: int) -> None:
    metrics.LAG.labels(place[1]).set(lag)


if __name__ == "__main__":
    run_service(ScorerSettings, lambda settings, stop: Scorer(settings, stop).run())

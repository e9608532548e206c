"""The scorer's clients of Kafka: where it starts reading, and that nothing it sends is lost."""

import logging
import time
from collections.abc import Sequence

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ClusterMetadata

from serving.scorer.errors import ScorerError
from serving.scorer.settings import MAX_DEAD_LETTER_BYTES, ScorerSettings

log = logging.getLogger("kafka")

# Somebody else has made the group his own or is about to: look again.
GROUP_IN_USE = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError._NO_OFFSET,
)


def wait_for_topics(settings: ScorerSettings) -> int:
    """Wait until a broker answers, and return the number of partitions of the payments' topic.

    Raises:
        ScorerError: none answered within CONNECT_TIMEOUT_SECONDS, or a topic is missing.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
    deadline = time.monotonic() + settings.connect_timeout_seconds
    while True:
        try:
            topics = _answer(admin, settings).topics
            break
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise ScorerError(
                    f"KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers}: no broker answers "
                    f"({error.args[0].str()}); correct the address, or start it: docker compose up -d kafka"
                ) from None
    for topic in (settings.transactions_topic, settings.scored_topic, settings.dead_letter_topic):
        if topic not in topics:
            raise ScorerError(f"{topic}: there is no such topic; make it: docker compose run --rm ingestion-init")
    return len(topics[settings.transactions_topic].partitions)


def _answer(admin: AdminClient, settings: ScorerSettings) -> ClusterMetadata:
    return admin.list_topics(timeout=min(5.0, settings.connect_timeout_seconds))


def make_consumer(settings: ScorerSettings) -> Consumer:
    """A consumer that commits nothing by itself."""
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": settings.scorer_group,
            "enable.auto.commit": False,
            # Every partition has a committed offset before the first message is read (pin_start), so this is only for
            # offsets that retention has overtaken: go on with the oldest that is left.
            "auto.offset.reset": "earliest",
            # After a kill -9 the next one gets the partitions this soon.
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 3_000,
            # While the API is away the scorer waits with a batch in hand; it must not lose its partitions meanwhile.
            "max.poll.interval.ms": 86_400_000,
            "queued.max.messages.kbytes": 16_384,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 2_000,
        },
        logger=log,
    )


def make_producer(settings: ScorerSettings) -> Producer:
    """A producer that loses nothing: idempotent, acks=all, and it waits for a broker that is away."""
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 0,
            "message.max.bytes": MAX_DEAD_LETTER_BYTES,
            "compression.type": "lz4",
            "linger.ms": 2,
            "reconnect.backoff.max.ms": 2_000,
        },
        logger=log,
    )


def pin_start(consumer: Consumer, settings: ScorerSettings, partitions: int) -> None:
    """Give every partition that has no committed offset one now, before anything is read.

    So a crash before the first batch skips nothing: "latest" means the moment of the group's first start, not of each.

    Raises:
        KafkaException: the broker does not answer.
    """
    topic = settings.transactions_topic
    everything = [TopicPartition(topic, partition) for partition in range(partitions)]
    while True:
        committed = consumer.committed(everything, timeout=30)
        missing = [place for place in committed if place.offset == OFFSET_INVALID]
        if not missing:
            return
        # A group that knows others: this partition is new, and everything in it is live.
        is_first_start = len(missing) == len(everything)
        from_end = is_first_start and settings.scorer_from == "latest"
        start = [
            TopicPartition(
                topic, place.partition, consumer.get_watermark_offsets(place, timeout=30)[1 if from_end else 0]
            )
            for place in missing
        ]
        try:
            # One request, so that a crash leaves all of them or none.
            consumer.commit(offsets=start, asynchronous=False)
            log.info(
                "the group %s has no offsets for %d of %d partitions yet: it starts at the %s",
                settings.scorer_group,
                len(missing),
                partitions,
                "end of the topic" if from_end else "beginning",
            )
        except KafkaException as error:
            if error.args[0].code() not in GROUP_IN_USE:
                raise
            time.sleep(0.5)


def readable(messages: Sequence[Message]) -> list[Message]:
    """The messages among what the client hands over; what it reports besides goes to the log.

    Raises:
        ScorerError: the client can't go on.
    """
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.fatal():
            raise ScorerError(f"{message.topic()}: {error.str()}")
        else:
            log.warning("%s: %s", message.topic() or "kafka", error.str())
    return good

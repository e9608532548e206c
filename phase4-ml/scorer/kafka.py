"""The scorer's clients of Kafka: where it starts reading, and that nothing it sends is lost."""

import logging
import time

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from fraud_common.kafka import CONSUMER
from scorer.settings import MAX_DEAD_LETTER_BYTES, ScorerSettings

log = logging.getLogger("kafka")

# Somebody else has made the group his own or is about to: look again.
GROUP_IN_USE = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError._NO_OFFSET,
)


def make_consumer(settings: ScorerSettings) -> Consumer:
    """A consumer that commits nothing by itself."""
    return Consumer(
        {
            **CONSUMER,
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": settings.scorer_group,
            # Every partition has a committed offset before the first message is read (pin_start), so this is only for
            # offsets that retention has overtaken: go on with the oldest that is left.
            "auto.offset.reset": "earliest",
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

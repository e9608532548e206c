"""The scorer's clients of Kafka: where it starts reading, and that nothing it sends is lost."""

import logging
import time

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from fraud_common import kafka
from fraud_common.topics import MAX_DEAD_LETTER_BYTES

from scorer.settings import ScorerSettings

log = logging.getLogger("kafka")

# Another process has joined the group or is about to: look again.
GROUP_IN_USE = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError._NO_OFFSET,
)


def make_consumer(settings: ScorerSettings) -> Consumer:
    """A consumer of the scorer's group, which commits nothing by itself."""
    # Every partition has a committed offset before the first message is read (pin_start), so this is only for
    # offsets whose messages retention has deleted: the oldest message that is left comes next.
    return kafka.make_group_consumer(settings, settings.scorer_group, **{"auto.offset.reset": "earliest"})


def make_producer(settings: ScorerSettings) -> Producer:
    """A producer that loses nothing, for scores and dead letters."""
    options = {
        "linger.ms": 2,
        # A whole batch of the largest messages may become dead letters at once.
        "queue.buffering.max.kbytes": 1_048_576,
    }
    return kafka.make_producer(settings, MAX_DEAD_LETTER_BYTES, **options)


def pin_start(consumer: Consumer, settings: ScorerSettings, partitions: int) -> None:
    """Commit an offset for every partition that has none, before anything is read.

    So a crash before the first batch skips nothing: "latest" means the moment of the group's first start, not of each.

    Raises:
        KafkaException: the broker does not answer.
    """
    topic = settings.transactions_topic
    everything = [TopicPartition(topic, partition) for partition in range(partitions)]
    while True:
        committed = kafka.committed_offsets(consumer, everything)
        missing = [each.partition for each in committed if each.offset == OFFSET_INVALID]
        if not missing:
            return
        # If the group has offsets of other partitions, these are new, and everything in them is live.
        is_first_start = len(missing) == len(everything)
        from_end = is_first_start and settings.scorer_from == "latest"
        start = []
        for partition in missing:
            begin, end = kafka.offsets_of(consumer, topic, partition)
            start.append(TopicPartition(topic, partition, end if from_end else begin))
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

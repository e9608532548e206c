"""How far the readers of Kafka are behind on the stack as a user has it."""

from confluent_kafka import Consumer, TopicPartition
from kafka_tools import KAFKA, committed
from feature_store import event_store
from stack import redis_client

RAW, LABELS, SCORED = "transactions.raw", "transactions.labels", "transactions.scored"
DEAD_LETTERS = "transactions.dlq"


def ends(topic: str) -> dict[int, int]:
    """The offset after the last message of each partition."""
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "test-reader"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    found = {each: consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1] for each in partitions}
    consumer.close()
    return found


def behind(group: str, topic: str) -> int:
    """How many messages of a topic the group has not committed."""
    # Asked in this order, so that what comes meanwhile is not missing but behind.
    done = committed(group, topic)
    return sum(ends(topic).values()) - sum(done.values())


def bronze_lag() -> int:
    """How many messages Bronze has not read."""
    return sum(behind("bronze-writer", topic) for topic in (RAW, LABELS))


def scorer_lag() -> int:
    """How many payments the scorer has not finished."""
    return behind("scorer", RAW)


def stream_lag() -> int:
    """How many messages Redis lacks."""
    known = event_store.positions(redis_client())
    return sum(end - known.get((topic, at), 0) for topic in (RAW, LABELS) for at, end in ends(topic).items())

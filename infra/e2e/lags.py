"""The lag of every consumer of Kafka, on the stack as a user has it."""

from confluent_kafka import Consumer
from feature_store import coverage
from fraud_common.kafka import offsets_of
from fraud_common.topics import LABELS, TRANSACTIONS
from kafka_tools import KAFKA, committed
from serving_stack import redis_client


def ends(topic: str) -> dict[int, int]:
    """The offset after the last message of each partition."""
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "test-reader"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    found = {}
    for partition in partitions:
        _, found[partition] = offsets_of(consumer, topic, partition)
    consumer.close()
    return found


def behind(group: str, topic: str) -> int:
    """How many messages of a topic the group has not committed."""
    # In this order, so that messages that arrive meanwhile count as lag.
    done = committed(group, topic)
    return sum(ends(topic).values()) - sum(done.values())


def bronze_lag() -> int:
    """How many messages Bronze has not read."""
    return sum(behind("bronze-writer", topic) for topic in (TRANSACTIONS, LABELS))


def scorer_lag() -> int:
    """How many payments the scorer has not finished."""
    return behind("scorer", TRANSACTIONS)


def stream_lag() -> int:
    """How many messages Redis lacks."""
    known = coverage.positions(redis_client())
    return sum(
        end - known.get((topic, partition), 0)
        for topic in (TRANSACTIONS, LABELS)
        for partition, end in ends(topic).items()
    )

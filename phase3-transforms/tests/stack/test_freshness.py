"""Whether Bronze is behind, asked of a real Kafka: quiet topics, waiting messages, and a Bronze that stopped."""

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from fraud_common.errors import UserError
from fraud_common.kafka import wait_for_broker
from fraud_common.settings import KafkaSettings, load_settings
from lakehouse.connection import lakehouse_cursor
from lakehouse.freshness import Backlog, bronze_backlog, loaded_within
from world import Bronze

PARTITIONS = 2
LIMIT = timedelta(minutes=30)
WEEK, HOUR, MINUTE = timedelta(days=7), timedelta(hours=1), timedelta(minutes=1)


class Topic:
    """A topic of its own, and a group that commits as the Bronze writer does."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.name = f"freshness-{uuid.uuid4().hex[:8]}"
        self._settings = settings
        self._servers = {"bootstrap.servers": settings.kafka_bootstrap_servers}
        self._admin = wait_for_broker(settings)
        # Times are the producer's, so that messages can be old, and Kafka keeps old ones.
        config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        self._admin.create_topics([NewTopic(self.name, PARTITIONS, 1, config=config)])[self.name].result()

    def send(self, *ages: timedelta) -> None:
        """Write messages of these ages to partition 0."""
        producer = Producer(self._servers)
        for age in ages:
            at_ms = int((time.time() - age.total_seconds()) * 1000)
            producer.produce(self.name, b"payment", partition=0, timestamp=at_ms)
        producer.flush()

    def take(self, offset: int) -> None:
        """Commit as if Bronze had taken all messages of partition 0 before the offset."""
        consumer = Consumer(self._servers | {"group.id": self.name, "enable.auto.commit": False})
        offsets = [TopicPartition(self.name, 0, offset), TopicPartition(self.name, 1, 0)]
        consumer.commit(offsets=offsets, asynchronous=False)
        consumer.close()

    def backlog(self) -> Backlog:
        return bronze_backlog(self._settings, LIMIT, (self.name,), self.name)

    def delete(self) -> None:
        self._admin.delete_topics([self.name])[self.name].result()


@pytest.fixture
def topic() -> Iterator[Topic]:
    topic = Topic(load_settings(KafkaSettings))
    yield topic
    topic.delete()


def test_a_quiet_topic_is_not_stale(topic: Topic) -> None:
    """A3: own data at rest, replayed an hour or a week ago; and a topic that nothing was ever sent to."""
    assert topic.backlog() == Backlog(0, 0)
    topic.send(WEEK, HOUR)
    topic.take(2)
    assert topic.backlog() == Backlog(0, 0)


def test_messages_that_wait_are_overdue_after_the_limit(topic: Topic) -> None:
    topic.send(WEEK, HOUR, MINUTE)
    assert topic.backlog() == Backlog(waiting=3, overdue=2)
    topic.take(1)
    assert topic.backlog() == Backlog(waiting=2, overdue=1)
    topic.take(2)
    assert topic.backlog() == Backlog(waiting=1, overdue=0)


def test_a_missing_topic_is_named() -> None:
    with pytest.raises(UserError, match=r"no-such-topic: there is no such topic; create it"):
        bronze_backlog(load_settings(KafkaSettings), LIMIT, ("no-such-topic",), "freshness")


def test_what_bronze_loaded_is_seen(bronze: Bronze) -> None:
    """Its newest batch says that it was loaded some hours ago."""
    with lakehouse_cursor() as trino:
        assert loaded_within(trino, timedelta(hours=12))
        assert not loaded_within(trino, timedelta(minutes=30))

"""What tests with Kafka share: topics of their own, payments to send, and a scorer that can be killed."""

import os
import signal
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from fastavro.types import Schema
from fraud_common.avro import Encoder, decode, latest_encoder
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import MAX_DEAD_LETTER_BYTES, SCORED, TRANSACTIONS
from sample_payments import payment
from serving_stack import API_URL

KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092")
REGISTRY = os.environ.get("SCHEMA_REGISTRY_URL", "http://schema-registry:8081")


@cache
def encoder_of(topic: str) -> Encoder:
    """The encoder of a topic, with the newest schema in the registry."""
    return latest_encoder(SchemaRegistry(REGISTRY), topic)


def schema_of(topic: str) -> Schema:
    """The newest schema of a topic."""
    return encoder_of(topic).schema


def payment_bytes(number: int, **changes: Any) -> bytes:
    """A good payment as it is on the topic."""
    return encoder_of(TRANSACTIONS).encode(payment(number, **changes))


@dataclass(frozen=True)
class Topics:
    """Topics of one test alone."""

    raw: str
    scored: str
    dead_letters: str

    def send(self, values: Sequence[tuple[bytes | None, bytes | None]], **options: Any) -> None:
        """Send keys and values in order, and wait until the broker has them."""
        producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True})
        for key, value in values:
            producer.produce(self.raw, value, key, **options)
        assert producer.flush(30) == 0

    def send_payments(self, numbers: range) -> None:
        """Send good payments."""
        self.send([(f"u{number % 10}".encode(), payment_bytes(number)) for number in numbers])

    def scores(self) -> list[dict[str, Any]]:
        """All scores so far, each with the key of its message; those of one key in their order."""
        schema = schema_of(SCORED)
        return [
            cast(dict[str, Any], decode(message.value() or b"", schema)) | {"key": message.key()}
            for message in read_topic(self.scored)
        ]

    def scored_ids(self) -> dict[str, list[str]]:
        """The ids of the scores by user, in their order."""
        ids: dict[str, list[str]] = defaultdict(list)
        for score in self.scores():
            ids[score["user_id"]].append(score["transaction_id"])
        return ids

    def all_scored(self, count: int) -> bool:
        """Whether so many different payments have a score."""
        return len({each for ids in self.scored_ids().values() for each in ids}) >= count


@contextmanager
def own_topics() -> Iterator[Topics]:
    """Topics that are gone afterwards."""
    name = f"scorer-test-{uuid.uuid4().hex[:8]}"
    topics = Topics(f"{name}-raw", f"{name}-scored", f"{name}-dlq")
    admin = AdminClient({"bootstrap.servers": KAFKA})
    limit = {"max.message.bytes": str(MAX_DEAD_LETTER_BYTES)}
    new = [
        NewTopic(topics.raw, num_partitions=10, replication_factor=1),
        NewTopic(topics.scored, num_partitions=10, replication_factor=1),
        NewTopic(topics.dead_letters, num_partitions=3, replication_factor=1, config=limit),
    ]
    for future in admin.create_topics(new).values():
        future.result()
    try:
        yield topics
    finally:
        for future in admin.delete_topics([topics.raw, topics.scored, topics.dead_letters]).values():
            future.result()


def read_topic(topic: str, begin: Mapping[int, int] | None = None) -> list[Message]:
    """Every message that is in the topic now; of each partition from its offset in `begin`, if there is one."""
    consumer = Consumer(
        {
            "bootstrap.servers": KAFKA,
            "group.id": "test-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": MAX_DEAD_LETTER_BYTES,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    left = set(partitions)
    begin = begin or {}
    consumer.assign([TopicPartition(topic, each, begin.get(each, OFFSET_BEGINNING)) for each in partitions])
    messages = []
    while left:
        message = consumer.poll(10)
        assert message is not None, f"{topic}: the broker does not answer"
        error = message.error()
        if error is None:
            messages.append(message)
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            left.discard(message.partition())
    consumer.close()
    return messages


def committed(group: str, topic: str) -> dict[int, int]:
    """The offsets that a group has committed, by partition."""
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": group})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    offsets = consumer.committed([TopicPartition(topic, partition) for partition in partitions], timeout=10)
    consumer.close()
    return {each.partition: each.offset for each in offsets if each.offset >= 0}


class RunningScorer:
    """A scorer in a process of its own."""

    def __init__(self, topics: Topics, folder: Path, **settings: Any) -> None:
        self.group = f"{topics.raw}-group"
        self._log = folder / f"scorer-{uuid.uuid4().hex[:8]}.log"
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": KAFKA,
            "SCHEMA_REGISTRY_URL": REGISTRY,
            "API_URL": API_URL,
            "SCORER_GROUP": self.group,
            "SCORER_FROM": "earliest",
            "TRANSACTIONS_TOPIC": topics.raw,
            "SCORED_TOPIC": topics.scored,
            "DEAD_LETTER_TOPIC": topics.dead_letters,
            "METRICS_PORT": "0",
        } | {name.upper(): str(value) for name, value in settings.items()}
        with self._log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "scorer"], env=os.environ | environment, stderr=log)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running_scorer(topics: Topics, folder: Path, **settings: Any) -> Iterator[RunningScorer]:
    """A scorer that has ended when the block has."""
    scorer = RunningScorer(topics, folder, **settings)
    try:
        yield scorer
    finally:
        if scorer.process.poll() is None:
            scorer.kill()

"""What tests of the feature stream share: a stream that can be killed, messages, and what Redis has afterwards."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pandas as pd
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from feature_store import coverage
from feature_store.layout import (
    DEVICE_FRAUDS,
    DEVICE_USERS,
    MERCHANT_DAYS,
    USER_EVENTS,
    USER_LABELS,
    day_of_field,
    event_time_of,
    parties_of,
)
from feature_world import make_world
from features import DAY_MS, DEVICE_FEATURES, MERCHANT_FEATURES, NOVELTY_FEATURES, USER_FEATURES
from fraud_common.settings import load_settings
from fraud_common.topics import LABELS, TRANSACTIONS
from kafka_tools import KAFKA, REGISTRY, encoder_of
from redis.exceptions import RedisError
from sample_payments import label, payment
from serving.feature_client import FeatureClient, Found, Subjects
from serving.predictor import choose_device, choose_merchant, choose_user
from serving.settings import Settings
from serving_stack import REDIS_HOST, redis_client, wait_until

# Those that come from what the stream keeps.
STREAMED_FEATURES = (*USER_FEATURES, *MERCHANT_FEATURES, *NOVELTY_FEATURES, *DEVICE_FEATURES)


@dataclass(frozen=True)
class Message:
    """A message to send."""

    topic: str
    key: str
    value: bytes


class RunningStream:
    """A feature stream in a process of its own, on topics of its own, and what is sent to it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        name = f"stream-test-{uuid.uuid4().hex[:8]}"
        self.transactions, self.labels = f"{name}-raw", f"{name}-labels"
        self._log = folder / "stream.log"
        self._environment = {
            "KAFKA_BOOTSTRAP_SERVERS": KAFKA,
            "SCHEMA_REGISTRY_URL": REGISTRY,
            "REDIS_HOST": REDIS_HOST,
            "TRANSACTIONS_TOPIC": self.transactions,
            "LABELS_TOPIC": self.labels,
            "FEATURE_STREAM_GROUP": name,
            "FEATURE_STREAM_FROM": "kafka",
            "METRICS_PORT": "0",
        } | settings
        admin = AdminClient({"bootstrap.servers": KAFKA})
        topics = (self.transactions, self.labels)
        for future in admin.create_topics([NewTopic(topic, 10, 1) for topic in topics]).values():
            future.result()
        self._producer = Producer({"bootstrap.servers": KAFKA, "linger.ms": 5})
        self.start()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def start(self) -> None:
        """Start the process; it resumes where the last one ended."""
        with self._log.open("a") as log:
            command = [sys.executable, "-m", "feature_stream"]
            self.process = subprocess.Popen(command, env=os.environ | self._environment, stderr=log)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def send(self, messages: Sequence[Message]) -> None:
        """Send in this order; returns when the broker has them."""
        for message in messages:
            self._producer.produce(message.topic, message.value, message.key.encode())
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def sent(self) -> dict[tuple[str, int], int]:
        """The end of each partition that has messages; nothing while a new topic has no leader for one of them."""
        consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": "test-reader"})
        ends: dict[tuple[str, int], int] = {}
        try:
            for topic in (self.transactions, self.labels):
                for partition in range(10):
                    _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
                    if end:
                        ends[topic, partition] = end
        except KafkaException:
            return {}
        finally:
            consumer.close()
        return ends

    def wait_until_read(self) -> None:
        """Wait until Redis has everything that was sent."""
        sent = wait_until(self.sent, "the broker knows its topics", 60)

        def is_there() -> bool:
            assert self.process.poll() is None, self.log
            try:
                known = coverage.positions(redis_client())
            except RedisError:
                return False
            return all(known.get(partition) == end for partition, end in sent.items())

        wait_until(is_there, "the stream has read everything", 120)

    def wait_until_current(self) -> None:
        """Wait until Redis has everything that was sent, and the stream has said so of all partitions."""
        self.wait_until_read()
        begin = time.time() * 1000
        wait_until(lambda: coverage.completeness(redis_client()).slowest > begin, "all partitions are current", 60)


@contextmanager
def running_stream(folder: Path, **settings: str) -> Iterator[RunningStream]:
    """A stream over an empty Redis; Redis is empty again and the process has ended when the block ends."""
    redis_client().flushdb()
    stream = RunningStream(folder, **settings)
    try:
        yield stream
    finally:
        if stream.process.poll() is None:
            stream.kill()
        redis_client().flushdb()


def look_up(payments: pd.DataFrame) -> list[Found]:
    """What the API finds for the users, merchants and devices of these payments."""

    async def ask() -> list[Found]:
        client = FeatureClient(load_settings(Settings, redis_deadline_ms=5_000))
        try:
            devices = payments.get("device_id", pd.Series("", payments.index))
            subjects = zip(payments["user_id"], payments["merchant_id"], devices, strict=True)
            return await client.look_up(list(starmap(Subjects, subjects)))
        finally:
            await client.close()

    return asyncio.run(ask())


def assert_equal_to_oracle(found: Found, row: pd.Series, example: dict[str, Any]) -> None:
    """The states that a prediction would take are those of the training example."""
    moment, now = row["event_time"].to_pydatetime(), datetime.now(UTC)
    parties = parties_of(row["merchant_id"], row["country"], row["device_id"])
    user = choose_user(found, parties, moment, found.stream.complete.of_user(row["user_id"]), now)
    merchant = choose_merchant(found, moment, now).features
    # Before the user's first payment the stream has nothing.
    assert user.source == ("stream" if found.events or found.labels else "default")
    expected = {name: example[name] for name in STREAMED_FEATURES}
    actual: dict[str, Any] = {}
    for state in (user.features, merchant, user.novelty, choose_device(found, moment, now).features):
        actual |= dataclasses.asdict(state)
    oracle.assert_same(actual, expected, row["transaction_id"])


def payment_message(stream: RunningStream, row: Any) -> Message:
    """A payment of the world as it comes from Kafka."""
    names = ("transaction_id", "user_id", "merchant_id", "country", "device_id", "device_type")
    record = payment(
        0,
        **{name: getattr(row, name) for name in names},
        amount=Decimal(f"{row.amount:.2f}"),
        event_time=row.event_time.to_pydatetime(),
        is_international=bool(row.is_international),
    )
    return Message(stream.transactions, row.user_id, encoder_of(TRANSACTIONS).encode(record))


def label_message(stream: RunningStream, row: Any) -> Message:
    """A label of the world as it comes from Kafka."""
    record = label(
        transaction_id=row.transaction_id,
        user_id=row.user_id,
        is_fraud=bool(row.is_fraud),
        event_time=row.event_time.to_pydatetime(),
        reported_at=row.reported_at.to_pydatetime(),
    )
    return Message(stream.labels, row.user_id, encoder_of(LABELS).encode(record))


def small_world(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Payments, labels and merchants."""
    return make_world(np.random.default_rng(seed))


def whole_world(stream: RunningStream, seed: int) -> list[Message]:
    """Everything at once, in an order of its own for each seed."""
    payments, labels, _ = small_world(1)
    messages = [payment_message(stream, row) for row in payments.itertuples()]
    messages += [label_message(stream, row) for row in labels.itertuples()]
    order = np.random.default_rng(seed).permutation(len(messages))
    return [messages[number] for number in order]


def all_state() -> dict[str, Any]:
    """What the stream has made of users and merchants, as far as a window reaches.

    What is older is removed with its user's next payment, so it depends on the order in which partitions are read.
    """
    client = redis_client()
    clock = coverage.clock(client)
    state: dict[str, Any] = {}
    for key in client.scan_iter(match=USER_EVENTS.format("*"), count=1000):
        members = client.zrange(key, 0, -1)
        horizon = min(event_time_of(members[-1]), clock) - 30 * DAY_MS
        state[key.decode()] = [member for member in members if event_time_of(member) >= horizon]
    for key in client.scan_iter(match=USER_LABELS.format("*"), count=1000):
        state[key.decode()] = client.zrange(key, 0, -1)
    for key in client.scan_iter(match=DEVICE_USERS.format("*"), count=1000):
        found = client.zrange(key, 0, -1, withscores=True)
        state[key.decode()] = [each for each in found if each[1] >= min(found[-1][1], clock) - 30 * DAY_MS]
    for kind in (MERCHANT_DAYS, DEVICE_FRAUDS):
        for key in client.scan_iter(match=kind.format("*"), count=1000):
            # A fraud that was cleared before it counted leaves a zero.
            state[key.decode()] = {
                name: number
                for name, number in client.hgetall(key).items()
                if number != b"0" and day_of_field(name) > clock // DAY_MS - 30
            }
    return state

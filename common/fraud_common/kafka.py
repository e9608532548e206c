"""Clients of Kafka with the platform's delivery guarantees, and what every program that reads or writes it asks."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from fraud_common.errors import UserError
from fraud_common.settings import KafkaSettings

log = logging.getLogger("kafka")

_SECONDS_BETWEEN_LAGS = 5.0

# Topic and partition number.
Partition = tuple[str, int]

# What a consumer fetches ahead of its reader, so that its memory does not depend on how many messages wait. The limit
# in kilobytes counts payload only, and a small message costs the client several times that: with 2 million messages
# waiting on 20 partitions the client takes 60 MiB, and with a limit of 16 MiB alone 294.
BOUNDED_PREFETCH: dict[str, Any] = {
    "queued.min.messages": 1_000,
    "queued.max.messages.kbytes": 2_048,
}

# For consumers in a group that commit after their work is done.
GROUP_CONSUMER: dict[str, Any] = {
    **BOUNDED_PREFETCH,
    "enable.auto.commit": False,
    # After a kill -9 the next process gets the partitions this soon.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
    # While the service downstream does not answer, a consumer waits with a batch in hand; it must keep its partitions.
    "max.poll.interval.ms": 86_400_000,
    "fetch.wait.max.ms": 50,
    "reconnect.backoff.max.ms": 2_000,
}


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Turn an error that the client raises into a UserError, for services that can't continue without the broker."""
    try:
        yield
    except KafkaException as error:
        raise UserError(f"kafka: {error.args[0].str()}; look at: docker compose logs kafka") from error


def wait_for_broker(settings: KafkaSettings) -> AdminClient:
    """Wait until a broker answers.

    Raises:
        UserError: none did within CONNECT_TIMEOUT_SECONDS.
    """
    servers, seconds = settings.kafka_bootstrap_servers, settings.connect_timeout_seconds
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    deadline = time.monotonic() + seconds
    while True:
        try:
            admin.list_topics(timeout=min(5.0, seconds))
            return admin
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"KAFKA_BOOTSTRAP_SERVERS={servers}: no broker answers ({error.args[0].str()}); "
                    "correct the address, or start it: docker compose up -d kafka"
                ) from None


def require_topics(admin: AdminClient, *topics: str) -> dict[str, int]:
    """The number of partitions of each topic.

    Raises:
        UserError: one is missing.
    """
    existing = admin.list_topics(timeout=10).topics
    for topic in topics:
        if topic not in existing:
            raise UserError(f"{topic}: there is no such topic; create it: docker compose run --rm ingestion-init")
    return {topic: len(existing[topic].partitions) for topic in topics}


def make_producer(settings: KafkaSettings, max_record_bytes: int, **options: Any) -> Producer:
    """A producer that loses nothing: idempotent, acks=all, and it waits for a broker that does not answer."""
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            # Without limit: giving up on a message whose fate is unknown would duplicate or lose it.
            "message.timeout.ms": 0,
            "message.max.bytes": max_record_bytes,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 131_072,
            "reconnect.backoff.max.ms": 2_000,
            **options,
        },
        logger=log,
    )


def make_group_consumer(settings: KafkaSettings, group: str, **options: Any) -> Consumer:
    """A consumer of a group; it commits nothing by itself."""
    return Consumer(
        {**GROUP_CONSUMER, "bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, **options},
        logger=log,
    )


def make_reader(settings: KafkaSettings, **options: Any) -> Consumer:
    """A consumer that is assigned its partitions by hand and commits nothing, for reading a topic to its end."""
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "ingestion-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            **BOUNDED_PREFETCH,
            **options,
        },
        logger=log,
    )


def read_topic(consumer: Consumer, topic: str) -> Iterator[Message]:
    """Every message that is in the topic now, partition by partition as they come."""
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    unfinished = set(partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    while unfinished:
        message = consumer.poll(10.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            unfinished.discard(message.partition())
        else:
            raise RuntimeError(f"{topic}: {error.str()}")
    consumer.unassign()


def readable(messages: Sequence[Message]) -> list[Message]:
    """The messages among what the client returns; its errors go to the log.

    Raises:
        UserError: the client can't continue.
    """
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.fatal():
            raise UserError(f"{message.topic()}: {error.str()}; look at: docker compose logs kafka")
        else:
            log.warning("%s: %s", message.topic() or "kafka", error.str())
    return good


def _once_known[T](ask: Callable[[], T], seconds: float) -> T:
    """The broker's answer; one that has just started may need a moment to find a leader or a coordinator."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def offsets_of(client: Consumer, topic: str, partition: int, seconds: float = 30.0) -> tuple[int, int]:
    """The first offset of a partition and the one after its last.

    Raises:
        KafkaException: the broker still does not know after `seconds`.
    """
    return _once_known(lambda: client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10), seconds)


def committed_offsets(
    client: Consumer, partitions: list[TopicPartition], seconds: float = 30.0
) -> list[TopicPartition]:
    """What the client's group has committed.

    Raises:
        KafkaException: the broker still does not know after `seconds`.
    """
    return _once_known(lambda: client.committed(partitions, timeout=10), seconds)


def watch_lag(
    consumer: Consumer,
    positions: Mapping[Partition, int],
    report: Callable[[Partition, int], None],
    stop: threading.Event,
) -> threading.Thread:
    """Start a thread that reports the lag of every partition every few seconds, also while the service waits.

    Args:
        consumer: one that no other thread polls: that one would answer late.
        positions: the next offset to be read, by topic and partition; the service advances it.
        report: takes the partition and how many messages it is behind.
    """

    def watch() -> None:
        while not stop.wait(_SECONDS_BETWEEN_LAGS):
            for partition, position in list(positions.items()):
                try:
                    low, high = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=5)
                except (KafkaException, RuntimeError):  # no answer, or closed
                    break
                if partition in positions:
                    report(partition, max(0, high - max(position, low)))

    thread = threading.Thread(target=watch, name="lag", daemon=True)
    thread.start()
    return thread

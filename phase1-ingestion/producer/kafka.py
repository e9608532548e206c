"""Connections to Kafka: the topics and how they are made, clients with the platform's delivery guarantees."""

import logging
import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from producer import settings as names
from fraud_common.errors import UserError
from producer.settings import Settings

log = logging.getLogger("kafka")

# Partitions and settings of each topic. The dead letter topic keeps what is too large for the others, and longer.
TOPICS: dict[str, tuple[int, dict[str, str]]] = {
    names.TRANSACTIONS_TOPIC: (10, {"max.message.bytes": str(names.MAX_RECORD_BYTES)}),
    names.LABELS_TOPIC: (10, {"max.message.bytes": str(names.MAX_RECORD_BYTES)}),
    names.SCORED_TOPIC: (10, {"max.message.bytes": str(names.MAX_RECORD_BYTES)}),
    names.DEAD_LETTER_TOPIC: (
        3,
        {"max.message.bytes": str(names.MAX_DEAD_LETTER_BYTES), "retention.ms": str(30 * 86_400_000)},
    ),
    # Which dead letters were sent back, so that none is sent back twice: the latest word for each is enough.
    names.REDRIVEN_TOPIC: (1, {"cleanup.policy": "compact"}),
}


def wait_for_broker(settings: Settings) -> AdminClient:
    """Wait until a broker answers.

    Raises:
        UserError: none did within CONNECT_TIMEOUT_SECONDS.
    """
    servers = settings.kafka_bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    deadline = time.monotonic() + settings.connect_timeout_seconds
    while True:
        try:
            admin.list_topics(timeout=min(5.0, settings.connect_timeout_seconds))
            return admin
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"KAFKA_BOOTSTRAP_SERVERS={servers}: no broker answers ({error.args[0].str()}); "
                    "correct the address, or start it: docker compose up -d kafka"
                ) from None


def ensure_topics(admin: AdminClient, replication: int) -> list[str]:
    """Make the topics that are missing; return their names.

    Raises:
        UserError: the broker refuses, or a topic that is there has another number of partitions: that number decides
            which partition a cardholder's payments are in, so it is never changed silently.
    """
    existing = admin.list_topics(timeout=10).topics
    for topic, (partitions, _) in TOPICS.items():
        if topic in existing and len(existing[topic].partitions) != partitions:
            raise UserError(
                f"{topic}: has {len(existing[topic].partitions)} partitions, not {partitions}; "
                "keys would move to other partitions: move its messages to a new topic first"
            )
    missing = [
        NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=config)
        for topic, (partitions, config) in TOPICS.items()
        if topic not in existing
    ]
    for topic, future in admin.create_topics(missing).items() if missing else ():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise UserError(f"{topic}: the broker refuses to make it: {error.args[0].str()}") from None
    return [topic.topic for topic in missing]


def require_topics(admin: AdminClient, *topics: str) -> dict[str, int]:
    """The number of partitions of each topic.

    Raises:
        UserError: one is missing.
    """
    existing = admin.list_topics(timeout=10).topics
    for topic in topics:
        if topic not in existing:
            raise UserError(f"{topic}: there is no such topic; make it: docker compose run --rm ingestion-init")
    return {topic: len(existing[topic].partitions) for topic in topics}


def max_message_bytes(admin: AdminClient, topic: str) -> int:
    """The broker's limit for a record of the topic, bytes."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    (future,) = admin.describe_configs([resource]).values()
    return int(future.result()["max.message.bytes"].value)


def offsets_of(client: Consumer, topic: str, partition: int, seconds: float = 30.0) -> tuple[int, int]:
    """The first offset of a partition and the one after its last; a broker that has just started may need a moment.

    Raises:
        KafkaException: the broker still doesn't know after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return low, high


def producer(settings: Settings, max_record_bytes: int, **options: Any) -> Producer:
    """A producer that loses nothing: idempotent, acks=all, and it waits for a broker that is away."""
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            # For ever: giving up on a message whose fate is unknown would make it a duplicate or a loss.
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


def consumer(settings: Settings, **options: Any) -> Consumer:
    """A consumer that is assigned its partitions by hand and commits nothing, for reading a topic through."""
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "ingestion-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            # Dead letters can be large: no more of them in memory ahead of the reader than this.
            "queued.max.messages.kbytes": 32_768,
            "fetch.message.max.bytes": names.MAX_DEAD_LETTER_BYTES,
            **options,
        },
        logger=log,
    )

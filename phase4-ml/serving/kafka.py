"""What the services that read Kafka share: how they consume, and that a broker and the topics are there."""

import logging
import time
from collections.abc import Sequence

from confluent_kafka import KafkaException, Message
from confluent_kafka.admin import AdminClient

from serving.errors import ServiceError

log = logging.getLogger("kafka")

CONSUMER = {
    "enable.auto.commit": False,
    # After a kill -9 the next one gets the partitions this soon.
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
    # While whoever takes the records is away the service waits with a batch in hand; it must not lose its partitions
    # meanwhile.
    "max.poll.interval.ms": 86_400_000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.wait.max.ms": 50,
    "reconnect.backoff.max.ms": 2_000,
}


def wait_for_topics(servers: str, topics: Sequence[str], seconds: float) -> dict[str, int]:
    """Wait until a broker answers, and return the number of partitions of each topic.

    Raises:
        ServiceError: none answered in so many seconds, or a topic is missing.
    """
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = admin.list_topics(timeout=min(5.0, seconds)).topics
            break
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"KAFKA_BOOTSTRAP_SERVERS={servers}: no broker answers "
                    f"({error.args[0].str()}); correct the address, or start it: docker compose up -d kafka"
                ) from None
    for topic in topics:
        if topic not in found:
            raise ServiceError(f"{topic}: there is no such topic; make it: docker compose run --rm ingestion-init")
    return {topic: len(found[topic].partitions) for topic in topics}


def readable(messages: Sequence[Message]) -> list[Message]:
    """The messages among what the client hands over; what it reports besides goes to the log.

    Raises:
        ServiceError: the client can't go on.
    """
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.fatal():
            raise ServiceError(f"{message.topic()}: {error.str()}")
        else:
            log.warning("%s: %s", message.topic() or "kafka", error.str())
    return good

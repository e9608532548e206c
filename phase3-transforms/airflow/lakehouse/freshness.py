"""Has Bronze taken what is in Kafka? The pipeline stops here if messages have waited for too long.

A quiet topic is not stale: if nothing new is in Kafka, Bronze is as fresh as it can be, however old its rows are.

python -m lakehouse.freshness --limit 30
"""

import argparse
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, TopicPartition
from fraud_common.errors import UserError, one_line_errors
from fraud_common.kafka import (
    committed_offsets,
    kafka_errors,
    make_group_consumer,
    offsets_of,
    require_topics,
    wait_for_broker,
)
from fraud_common.settings import KafkaSettings, load_settings
from fraud_common.topics import BRONZE_GROUP, LABELS, TRANSACTIONS
from fraud_common.trino import query
from trino.dbapi import Cursor

from lakehouse.connection import LakehouseSettings, lakehouse_cursor
from lakehouse.register import register_bronze

log = logging.getLogger(__name__)

KAFKA_SECONDS = 10


@dataclass(frozen=True)
class Backlog:
    """Messages in Kafka that Bronze has not taken."""

    waiting: int = 0
    # Those of them that have been in Kafka for longer than the limit.
    overdue: int = 0

    def __add__(self, other: "Backlog") -> "Backlog":
        return Backlog(self.waiting + other.waiting, self.overdue + other.overdue)


@dataclass(frozen=True)
class PartitionOffsets:
    """Where a partition begins and ends, and how far Bronze is; negative where Kafka knows of none."""

    first: int
    end: int
    committed: int
    # The first message that is younger than the limit.
    young: int

    def backlog(self) -> Backlog:
        """What Bronze has not taken. Messages that Kafka has deleted don't wait any more."""
        taken = max(self.first, self.committed)
        young = self.young if self.young >= 0 else self.end
        return Backlog(max(0, self.end - taken), max(0, young - taken))


def bronze_backlog(settings: KafkaSettings, limit: timedelta, topics: tuple[str, ...], group: str) -> Backlog:
    """What the group has not taken of the topics.

    Raises:
        UserError: no broker answers, or a topic is missing.
    """
    with kafka_errors():
        partitions = require_topics(wait_for_broker(settings), *topics)
        consumer = make_group_consumer(settings, group)
        try:
            return sum((_topic_backlog(consumer, topic, partitions[topic], limit) for topic in topics), Backlog())
        finally:
            consumer.close()


def _topic_backlog(consumer: Consumer, topic: str, partitions: int, limit: timedelta) -> Backlog:
    cutoff_ms = int((datetime.now(UTC) - limit).timestamp() * 1000)
    committed = committed_offsets(consumer, [TopicPartition(topic, n) for n in range(partitions)])
    young = consumer.offsets_for_times(
        [TopicPartition(topic, n, cutoff_ms) for n in range(partitions)], timeout=KAFKA_SECONDS
    )
    # The ends come last, so that no partition seems to end before what was committed.
    return sum(
        (
            PartitionOffsets(*offsets_of(consumer, topic, n), committed[n].offset, young[n].offset).backlog()
            for n in range(partitions)
        ),
        Backlog(),
    )


def loaded_within(trino: Cursor, limit: timedelta) -> bool:
    """Whether Bronze has loaded a row of either table in this time.

    Each file's range of loaded_at is in the Delta log, so only the newest files are opened. The files' own times would
    not do: a compaction makes new files of old rows.
    """
    since = f"loaded_at > current_timestamp - interval '{limit // timedelta(seconds=1)}' second"
    rows = query(
        trino,
        f"select 1 from delta.bronze.transactions where {since}"
        f" union all select 1 from delta.bronze.labels where {since} limit 1",
    )
    return bool(rows)


def has_payments(trino: Cursor) -> bool:
    """Whether there is anything to transform."""
    return bool(query(trino, "select 1 from delta.bronze.transactions limit 1"))


def check_bronze_freshness(trino: Cursor, kafka: KafkaSettings, limit_minutes: int) -> str:
    """Register Bronze if need be, and check that it takes what is in Kafka.

    Returns:
        a sentence for the log.

    Raises:
        UserError: Bronze is missing, or messages have waited for longer than the limit while it loaded nothing.
    """
    register_bronze(trino)
    limit = timedelta(minutes=limit_minutes)
    backlog = bronze_backlog(kafka, limit, (TRANSACTIONS, LABELS), BRONZE_GROUP)
    if not backlog.waiting:
        return "Nothing new: Bronze has every message of Kafka"
    if not backlog.overdue:
        return f"Bronze is fresh: {backlog.waiting:,} messages wait in Kafka, none for more than {limit_minutes} min"
    if loaded_within(trino, limit):
        return f"Bronze is catching up: {backlog.waiting:,} messages wait in Kafka"
    raise UserError(
        f"Bronze is stale: {backlog.overdue:,} messages have been in Kafka for more than {limit_minutes} min, and "
        "Bronze has loaded nothing in that time: is spark-streaming up? docker compose ps spark-streaming"
    )


def main() -> None:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        default = load_settings(LakehouseSettings).bronze_max_age_minutes
        parser = argparse.ArgumentParser(prog="python -m lakehouse.freshness", description=__doc__.splitlines()[0])
        parser.add_argument("--limit", type=int, default=default, metavar="MINUTES", help="default: %(default)s")
        arguments = parser.parse_args()
        with lakehouse_cursor() as trino:
            log.info(check_bronze_freshness(trino, load_settings(KafkaSettings), arguments.limit))


if __name__ == "__main__":
    main()

"""Writes the batches of one Bronze table, each message exactly once.

A crash may leave a batch in the table that the checkpoint does not know of. Such a batch is read again after the start,
and what the table has of it is recognised by partition and offset, so nothing is written twice. Nor is anything skipped
because of its batch number, which begins again with a new checkpoint.
"""

import uuid
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from spark_jobs.bronze_rows import bad, bronze_rows, checked
from spark_jobs.bronze_table import BronzeTable, coordinates_within, newest_event_time
from spark_jobs.dead_letters import send_dead_letters
from spark_jobs.decode import SCHEMA_UNKNOWN
from spark_jobs.kafka_topic import KafkaTopic
from spark_jobs.progress import BatchCounts, record_batch
from spark_jobs.schemas import MAX_IDS_IN_A_BATCH, TopicSchemas
from spark_jobs.settings import Settings
from spark_jobs.start_point import Offsets, TopicRecreated

# Rows; up to here one core writes a batch in about a second.
SMALL_BATCH = 50_000
_COORDINATES = ["kafka_partition", "kafka_offset"]


class BatchWriter:
    """Takes the batches of one topic, in order."""

    def __init__(
        self, spark: SparkSession, settings: Settings, table: BronzeTable, topic: KafkaTopic, schemas: TopicSchemas
    ) -> None:
        """Read how far the events of the table reach."""
        self._spark, self._settings, self._table = spark, settings, table
        self._topic, self._schemas = topic, schemas
        self._topic_id = topic.topic_id()
        self._previous_rows: int | None = None  # rows of the previous batch; None before the first one
        self._newest = newest_event_time(spark, table)
        self._start_id = uuid.uuid4().hex
        self._written: Offsets = {}  # behind the rows that the table has already, of what is still to be read

    def expect_again(self, written: Offsets) -> None:
        """Say which rows the table has of what will be read: batches are compared with it until these are passed.

        Args:
            written: partition -> the offset behind the last such row; partitions without one are left out.
        """
        self._written = dict(written)

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Write one batch: good rows to Delta, bad rows to the dead letter topic.

        The dead letters of a batch that is read again after a crash are sent again, since it is unknown whether they
        had been sent.

        Raises:
            TopicRecreated: the batch is not from the topic that Bronze has read so far.
        """
        if (topic_id := self._topic.topic_id()) != self._topic_id:
            raise TopicRecreated(f"{self._table.topic}: the topic was deleted and created again: its id is {topic_id}")
        schemas = self._schemas.current()
        rows = checked(batch, schemas, self._table.rules)
        if self._written:
            counts = self._append_rest(batch, rows)
        else:
            observation = Observation()
            self.append(rows.observe(observation, *_count_columns()), batch_id)
            counts = BatchCounts(**observation.get)
        if counts.unknown and (more := self._schemas.find(_unknown_ids(rows))) is not None:
            rows = checked(batch, more, self._table.rules)
            if new := more.by_id.keys() - schemas.by_id.keys():
                counts = _moved(counts, self._append_rest(batch, rows.where(F.col("schema_id").isin(*new))))
        violations = self._send_dead_letters(rows) if counts.bad else {}
        self._remember(counts)
        record_batch(self._table.topic, counts, violations, self._newest)

    def append(self, rows: DataFrame, batch_id: int | None) -> None:
        """Append the good ones of the checked rows to the table.

        Args:
            rows: checked rows.
            batch_id: with it the write gets a transaction identifier, so that an attempt whose outcome was unknown is
                not repeated; None for rows that were compared with the table.
        """
        # A small batch makes one file, so that a day of 10-second batches leaves thousands; compaction merges them.
        small = self._previous_rows is not None and self._previous_rows < SMALL_BATCH
        writer = (
            bronze_rows(rows, self.late_before())
            .coalesce(1 if small else rows.sparkSession.sparkContext.defaultParallelism)
            .write.format("delta")
            .mode("append")
            .option("mergeSchema", "true")
        )
        if batch_id is not None:
            writer = writer.option("txnAppId", self._writer_id(rows.sparkSession)).option("txnVersion", batch_id)
        writer.save(self._table.path)

    def late_before(self) -> datetime | None:
        """The time before which an event is late; None while no event has been seen."""
        return self._newest and self._newest - timedelta(minutes=self._settings.bronze_late_after_minutes)

    def _writer_id(self, spark: SparkSession) -> str:
        """The application's name in Delta's transaction identifiers, of this start of this query.

        Batch numbers begin again with a new checkpoint, and go back with an older one. Under the same name Delta would
        take such a batch for one that it has, and skip it.
        """
        query_id = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
        return f"bronze-writer/{self._table.topic}/{query_id}/{self._start_id}"

    def _append_rest(self, batch: DataFrame, rows: DataFrame) -> BatchCounts:
        """Append what the table lacks of a batch that it may have, wholly or in part."""
        by_partition = batch.groupBy("partition").agg(F.min("offset").alias("first"), F.max("offset").alias("last"))
        ranges = {row["partition"]: (row["first"], row["last"]) for row in by_partition.collect()}
        rest = self._without_written(rows, ranges)
        counts = BatchCounts(**rest.agg(*_count_columns()).first().asDict())
        if counts.good:
            self.append(rest, None)
        self._written = {
            partition: offset
            for partition, offset in self._written.items()
            if partition not in ranges or ranges[partition][1] + 1 < offset
        }
        return counts

    def _without_written(self, rows: DataFrame, ranges: dict[int, tuple[int, int]]) -> DataFrame:
        table = self._spark.read.format("delta").load(self._table.path)
        written = table.where(coordinates_within(ranges)).select(*_COORDINATES)
        return rows.join(written, _COORDINATES, "left_anti")

    def _send_dead_letters(self, rows: DataFrame) -> dict[str, int]:
        return send_dead_letters(bad(rows), self._table.topic, self._settings.kafka_bootstrap_servers)

    def _remember(self, counts: BatchCounts) -> None:
        if counts.newest is not None:
            self._newest = max(counts.newest, self._newest or counts.newest)
        self._previous_rows = counts.good + counts.bad


def _count_columns() -> list[Column]:
    is_good = F.size("reasons") == 0
    newest = F.max(F.when(is_good, F.col("event_time"))).alias("newest")
    unknown = F.count_if(F.array_contains("reasons", SCHEMA_UNKNOWN)).alias("unknown")
    return [F.count_if(is_good).alias("good"), F.count_if(~is_good).alias("bad"), newest, unknown]


def _unknown_ids(rows: DataFrame) -> list[int]:
    """The most frequent ids of unknown schemas."""
    unknown = rows.where(F.array_contains("reasons", SCHEMA_UNKNOWN)).groupBy("schema_id").count()
    found = unknown.orderBy(F.desc("count"), "schema_id").limit(10 * MAX_IDS_IN_A_BATCH).collect()
    return [row["schema_id"] for row in found]


def _moved(counts: BatchCounts, found: BatchCounts) -> BatchCounts:
    """The counts of a batch after some rows that were counted as bad turned out to be good."""
    newest = max((time for time in (counts.newest, found.newest) if time is not None), default=None)
    return BatchCounts(counts.good + found.good, counts.bad - found.good, newest, counts.unknown)

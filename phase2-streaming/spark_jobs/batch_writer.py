"""Writes the batches of one Bronze table, each exactly once.

A batch is written with its number as Delta's transaction identifier, so a batch that is replayed after a crash adds
no rows.
"""

from datetime import datetime, timedelta

from fraud_common.schema_registry import SchemaRegistry
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from spark_jobs.bronze_rows import bad, bronze_rows, checked
from spark_jobs.bronze_table import BronzeTable, create_if_missing, newest_event_time
from spark_jobs.dead_letters import send_dead_letters
from spark_jobs.progress import BatchCounts, record_batch
from spark_jobs.schemas import schemas_of
from spark_jobs.settings import Settings

# Rows; up to here one core writes a batch in about a second.
SMALL_BATCH = 50_000


class BatchWriter:
    """Takes the batches of one topic, in order."""

    def __init__(self, spark: SparkSession, settings: Settings, table: BronzeTable, registry: SchemaRegistry) -> None:
        """Create the table if it is missing, and read how far its events reach."""
        self._settings = settings
        self._table = table
        self._registry = registry
        self._previous_rows: int | None = None  # rows of the previous batch; None before the first one
        create_if_missing(spark, table, schemas_of(registry, table.topic))
        self._newest = newest_event_time(spark, table)

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Write one batch: good rows to Delta, bad rows to the dead letter topic.

        A batch that is replayed after a crash may be in Delta already. Delta then skips it, and there is nothing to
        observe. Only the first batch after a start can be such a batch, so it is counted separately. Its dead letters
        are sent again, since it is unknown whether they had been sent.
        """
        rows = checked(batch, schemas_of(self._registry, self._table.topic), self._table.rules)
        if self._previous_rows is None:
            counts = BatchCounts(**rows.agg(*_count_columns()).first().asDict())
            self.append(rows, batch_id)
        else:
            observation = Observation()
            self.append(rows.observe(observation, *_count_columns()), batch_id)
            counts = BatchCounts(**observation.get)
        violations = self._send_dead_letters(rows) if counts.bad else {}
        self._remember(counts)
        record_batch(self._table.topic, counts, violations, self._newest)

    def append(self, rows: DataFrame, batch_id: int) -> None:
        """Append the good ones of the checked rows to the table, unless the batch is there already."""
        # A small batch makes one file, so that a day of 10-second batches leaves thousands; compaction merges them.
        small = self._previous_rows is not None and self._previous_rows < SMALL_BATCH
        (
            bronze_rows(rows, self.late_before())
            .coalesce(1 if small else rows.sparkSession.sparkContext.defaultParallelism)
            .write.format("delta")
            .mode("append")
            .option("mergeSchema", "true")
            .option("txnAppId", self._table.writer_id)
            .option("txnVersion", batch_id)
            .save(self._table.path)
        )

    def late_before(self) -> datetime | None:
        """The time before which an event is late; None while no event has been seen."""
        return self._newest and self._newest - timedelta(minutes=self._settings.bronze_late_after_minutes)

    def _send_dead_letters(self, rows: DataFrame) -> dict[str, int]:
        return send_dead_letters(bad(rows), self._table.topic, self._settings.kafka_bootstrap_servers)

    def _remember(self, counts: BatchCounts) -> None:
        if counts.newest is not None:
            self._newest = max(counts.newest, self._newest or counts.newest)
        self._previous_rows = counts.good + counts.bad


def _count_columns() -> list[Column]:
    is_good = F.size("reasons") == 0
    newest = F.max(F.when(is_good, F.col("event_time"))).alias("newest")
    return [F.count_if(is_good).alias("good"), F.count_if(~is_good).alias("bad"), newest]

"""A Bronze table: which topic it comes from, by which rules, and where it and its checkpoint are."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_

from delta.tables import DeltaTable
from fraud_common.topics import LABELS, TRANSACTIONS
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from spark_jobs.bronze_rows import bronze_rows, checked
from spark_jobs.quality_checks import LABEL_RULES, TRANSACTION_RULES
from spark_jobs.schemas import Schemas
from spark_jobs.settings import Settings

_KAFKA_COLUMNS = (
    "key binary, value binary, partition int, offset long, timestamp timestamp, "
    "headers array<struct<key: string, value: binary>>"
)
_TOPIC_ID = "bronze.kafkaTopicId"
_PROPERTIES = {
    # What readers look rows up by. Minima and maxima of all the other columns would cost a tenth of the throughput.
    "delta.dataSkippingStatsColumns": "event_time,loaded_at,kafka_partition,kafka_offset",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
    # Each start of the job writes under an identifier of its own.
    "delta.setTransactionRetentionDuration": "interval 30 days",
}


@dataclass(frozen=True)
class BronzeTable:
    """One row per Kafka record of a topic that violates none of the rules."""

    topic: str
    rules: dict[str, str]
    path: str
    checkpoint: str


def bronze_tables(settings: Settings) -> list[BronzeTable]:
    """The tables that the job writes."""

    def table(topic: str, name: str, rules: dict[str, str]) -> BronzeTable:
        return BronzeTable(topic, rules, f"{settings.bronze_path}/{name}", f"{settings.checkpoint_path}/{name}")

    return [table(TRANSACTIONS, "transactions", TRANSACTION_RULES), table(LABELS, "labels", LABEL_RULES)]


def exists(spark: SparkSession, table: BronzeTable) -> bool:
    """Whether the table is there. Delta itself would also look in the directories above, which are closed to Spark."""
    log = spark._jvm.org.apache.hadoop.fs.Path(f"{table.path}/_delta_log")
    files = log.getFileSystem(spark._jsc.hadoopConfiguration())
    if not files.exists(log):
        return False
    return any(file.getPath().getName().endswith((".json", ".parquet")) for file in files.listStatus(log))


def columns(spark: SparkSession, table: BronzeTable) -> StructType:
    """The columns that the table has; none without a table."""
    return spark.read.format("delta").load(table.path).schema if exists(spark, table) else StructType()


def create(spark: SparkSession, table: BronzeTable, schemas: Schemas, topic_id: str) -> None:
    """Create the table before the first batch, so that readers can be set up at once."""
    no_messages = spark.createDataFrame([], _KAFKA_COLUMNS)
    rows = bronze_rows(checked(no_messages, schemas, table.rules), None)
    builder = DeltaTable.create(spark).location(table.path).addColumns(rows.schema)
    for name, value in (_PROPERTIES | {_TOPIC_ID: topic_id}).items():
        builder = builder.property(name, value)
    builder.partitionedBy("event_date").execute()


def newest_event_time(spark: SparkSession, table: BronzeTable) -> datetime | None:
    """The newest event time in the table. Delta knows the newest day, so only the files of that day are read."""
    rows = spark.read.format("delta").load(table.path)
    newest_day = rows.agg(F.max("event_date").alias("day")).first()["day"]
    return rows.where(F.col("event_date") == newest_day).agg(F.max("event_time").alias("time")).first()["time"]


def topic_id_of(spark: SparkSession, table: BronzeTable) -> str | None:
    """The id of the Kafka topic that the table's rows come from; None if it was never recorded."""
    properties = spark.sql(f"show tblproperties delta.`{table.path}`").collect()
    return next((row["value"] for row in properties if row["key"] == _TOPIC_ID), None)


def record_topic_id(spark: SparkSession, table: BronzeTable, topic_id: str) -> None:
    """Record which Kafka topic the table's rows come from."""
    spark.sql(f"alter table delta.`{table.path}` set tblproperties ('{_TOPIC_ID}' = '{topic_id}')")


def next_offsets(spark: SparkSession, table: BronzeTable, at_least: Mapping[int, int] | None = None) -> dict[int, int]:
    """Partition -> the offset behind the last row that the table has of it.

    Args:
        at_least: only rows from these offsets on, so that Delta opens the files of the last batches only.
    """
    rows = spark.read.format("delta").load(table.path)
    if at_least:
        rows = rows.where(coordinates_within({partition: (first, None) for partition, first in at_least.items()}))
    found = rows.groupBy("kafka_partition").agg((F.max("kafka_offset") + 1).alias("next")).collect()
    return {row["kafka_partition"]: row["next"] for row in found}


def coordinates_within(ranges: Mapping[int, tuple[int, int | None]]) -> Column:
    """Whether a row is in one of the ranges: partition -> first and last offset, or None for no last one."""
    conditions = [
        (F.col("kafka_partition") == partition)
        & (F.col("kafka_offset") >= first)
        & (F.lit(True) if last is None else F.col("kafka_offset") <= last)
        for partition, (first, last) in ranges.items()
    ]
    return reduce(or_, conditions, F.lit(False))

"""A Bronze table: which topic it comes from, by which rules, and where it and its checkpoint are."""

from dataclasses import dataclass
from datetime import datetime

from delta.tables import DeltaTable
from fraud_common.topics import LABELS, TRANSACTIONS
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_jobs.bronze_rows import bronze_rows, checked
from spark_jobs.quality_checks import LABEL_RULES, TRANSACTION_RULES
from spark_jobs.schemas import Schemas
from spark_jobs.settings import Settings

_KAFKA_COLUMNS = (
    "key binary, value binary, partition int, offset long, timestamp timestamp, "
    "headers array<struct<key: string, value: binary>>"
)
_PROPERTIES = {
    # What readers look rows up by. Minima and maxima of all the other columns would cost a tenth of the throughput.
    "delta.dataSkippingStatsColumns": "event_time,loaded_at,kafka_partition,kafka_offset",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


@dataclass(frozen=True)
class BronzeTable:
    """One row per Kafka record of a topic that violates none of the rules."""

    topic: str
    rules: dict[str, str]
    path: str
    checkpoint: str

    @property
    def writer_id(self) -> str:
        """The application's name in Delta's transaction identifiers; another one would write old batches again."""
        return f"bronze-writer/{self.topic}"


def bronze_tables(settings: Settings) -> list[BronzeTable]:
    """The tables that the job writes."""

    def table(topic: str, name: str, rules: dict[str, str]) -> BronzeTable:
        return BronzeTable(topic, rules, f"{settings.bronze_path}/{name}", f"{settings.checkpoint_path}/{name}")

    return [table(TRANSACTIONS, "transactions", TRANSACTION_RULES), table(LABELS, "labels", LABEL_RULES)]


def create_if_missing(spark: SparkSession, table: BronzeTable, schemas: Schemas) -> None:
    """Create the table before the first batch, so that readers can be set up at once."""
    no_messages = spark.createDataFrame([], _KAFKA_COLUMNS)
    rows = bronze_rows(checked(no_messages, schemas, table.rules), None)
    builder = DeltaTable.createIfNotExists(spark).location(table.path).addColumns(rows.schema)
    for name, value in _PROPERTIES.items():
        builder = builder.property(name, value)
    builder.partitionedBy("event_date").execute()


def newest_event_time(spark: SparkSession, table: BronzeTable) -> datetime | None:
    """The newest event time in the table. Delta knows the newest day, so only the files of that day are read."""
    rows = spark.read.format("delta").load(table.path)
    newest_day = rows.agg(F.max("event_date").alias("day")).first()["day"]
    return rows.where(F.col("event_date") == newest_day).agg(F.max("event_time").alias("time")).first()["time"]

"""The Bronze writer: every Kafka record once into Delta, or into the dead letter topic.

Upstream are the producer and replay, downstream the dbt models. A batch is written with its number as Delta's
transaction identifier, so one that is replayed after a crash adds nothing.
"""

import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from delta.tables import DeltaTable
from prometheus_client import start_http_server
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from spark_jobs.decode import decoded, undecodable, with_kafka_columns
from spark_jobs.progress import ProgressListener, record_batch
from spark_jobs.quality_checks import LABEL_RULES, TRANSACTION_RULES, broken_rules
from fraud_common.schema_registry import Schemas, SchemaSource
from spark_jobs.settings import Settings, load_settings

log = logging.getLogger("bronze")

DEAD_LETTER_TOPIC = "transactions.dlq"
# Topic -> name of its Bronze table, and its rules.
TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "transactions.raw": ("transactions", TRANSACTION_RULES),
    "transactions.labels": ("labels", LABEL_RULES),
}
# What Bronze adds to the decoded fields.
LOAD_COLUMNS = ("schema_id", "kafka_partition", "kafka_offset", "kafka_timestamp", "loaded_at", "is_late", "event_date")
# Rows; up to here one core writes a batch in about a second.
SMALL_BATCH = 50_000
TABLE_PROPERTIES = {
    # What readers look rows up by. Minima and maxima of all the other columns would cost a tenth of the throughput.
    "delta.dataSkippingStatsColumns": "event_time,loaded_at,kafka_partition,kafka_offset",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


def build_session(settings: Settings) -> SparkSession:
    """The session; master and resources come from spark-submit."""
    session = (
        SparkSession.builder.appName("bronze-writer")
        .config("spark.hadoop.fs.s3a.endpoint", settings.s3_endpoint)
        .config("spark.hadoop.fs.s3a.access.key", settings.s3_access_key)
        .config("spark.hadoop.fs.s3a.secret.key", settings.s3_secret_key)
        # Seconds of retries, not minutes: while MinIO is away the job ends; the next start goes on from the checkpoint.
        .config("spark.hadoop.fs.s3a.attempts.maximum", "5")
        .config("spark.hadoop.fs.s3a.retry.limit", "5")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("WARN")
    return session


def read_kafka(spark: SparkSession, settings: Settings, topic: str) -> DataFrame:
    """The topic as a stream, from its beginning; missing offsets end the job instead of being skipped."""
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
        # A task reads its partitions one after the other, and may wait at each for a fetch that finds nothing new.
        .option("kafka.fetch.max.wait.ms", 20)
        .option("maxOffsetsPerTrigger", settings.bronze_max_offsets_per_trigger)
        .load()
    )


def checked(batch: DataFrame, schemas: Schemas, rules: dict[str, str]) -> DataFrame:
    """Decode a batch and name what is wrong with each row.

    Returns:
        the Kafka columns, the decoded fields, and `reasons`: the names of all broken rules, empty for a good row.
    """
    with_record = with_kafka_columns(batch).withColumn("record", decoded(schemas))
    flat = with_record.select("*", "record.*").drop("record").withColumn("undecodable", undecodable(schemas))
    reasons = F.when(F.col("undecodable").isNotNull(), F.array("undecodable")).otherwise(broken_rules(rules))
    return flat.withColumn("reasons", reasons).drop("undecodable")


def bronze_rows(rows: DataFrame, watermark: datetime | None) -> DataFrame:
    """The good rows as they stand in Bronze: the decoded fields unmodified, and where and when they came from.

    Args:
        watermark: what happened before it is late; None while nothing was seen yet.
    """
    fields = [c for c in rows.columns if not c.startswith("kafka_") and c not in ("schema_id", "reasons")]
    is_late = F.col("event_time") < F.lit(watermark) if watermark else F.lit(False)
    return (
        rows.where(F.size("reasons") == 0)
        .withColumn("schema_id", F.col("schema_id").try_cast("int"))
        .withColumn("loaded_at", F.current_timestamp())
        .withColumn("is_late", is_late)
        .withColumn("event_date", F.to_date("event_time"))
        .select(*fields, *LOAD_COLUMNS)
    )


def dead_letters(rows: DataFrame, topic: str) -> DataFrame:
    """Bad rows as messages for the dead letter topic: original key and value, everything else in headers."""
    attempts = F.expr("try_cast(string(get(filter(kafka_headers, h -> h.key = 'dlq.attempts'), 0).value) as int)")
    headers: dict[str, Column] = {
        "dlq.stage": F.lit("bronze"),
        "dlq.reasons": F.array_join("reasons", ","),
        "dlq.error": F.concat(F.lit("breaks "), F.array_join("reasons", ", ")),
        "dlq.topic": F.lit(topic),
        "dlq.partition": F.col("kafka_partition").cast("string"),
        "dlq.offset": F.col("kafka_offset").cast("string"),
        "dlq.failed_at": F.date_format(F.current_timestamp(), "yyyy-MM-dd'T'HH:mm:ss.SSS'+00:00'"),
        # A message that was sent back from the dead letter topic says how often it had failed by then.
        "dlq.attempts": (F.coalesce(attempts, F.lit(0)) + 1).cast("string"),
    }
    as_headers = [
        F.struct(F.lit(name).alias("key"), text.cast("binary").alias("value")) for name, text in headers.items()
    ]
    return rows.select(
        F.col("kafka_key").alias("key"), F.col("kafka_value").alias("value"), F.array(*as_headers).alias("headers")
    )


class BronzeTable:
    """Writes the batches of one topic."""

    def __init__(self, spark: SparkSession, settings: Settings, topic: str, schema_source: SchemaSource) -> None:
        self._settings = settings
        self._topic = topic
        self._schema_source = schema_source
        self._name, self._rules = TABLES[topic]
        self._path = f"{settings.bronze_path}/{self._name}"
        self._last_rows: int | None = None  # how many the batch before had; None before the first one
        self._ensure_table(spark)
        self._newest = self._newest_event(spark)

    def _ensure_table(self, spark: SparkSession) -> None:
        """The table exists, empty if need be, before the first batch, so that readers can be set up at once."""
        nothing = spark.createDataFrame(
            [],
            "key binary, value binary, partition int, offset long, timestamp timestamp, "
            "headers array<struct<key: string, value: binary>>",
        )
        rows = bronze_rows(checked(nothing, self._schema_source.schemas(self._topic), self._rules), None)
        builder = DeltaTable.createIfNotExists(spark).location(self._path).addColumns(rows.schema)
        for name, value in TABLE_PROPERTIES.items():
            builder = builder.property(name, value)
        builder.partitionedBy("event_date").execute()

    def _newest_event(self, spark: SparkSession) -> datetime | None:
        """The newest event time in the table: Delta knows the newest day, so that only its files are read."""
        table = spark.read.format("delta").load(self._path)
        newest_day = table.agg(F.max("event_date")).first()[0]
        return table.where(F.col("event_date") == newest_day).agg(F.max("event_time")).first()[0]

    def write(self, batch: DataFrame, batch_id: int) -> None:
        """Write one batch: good rows to Delta, bad rows to the dead letter topic.

        A batch that is replayed after a crash may be in Delta already; Delta then leaves it out, so there would be
        nothing to observe. Only the first batch after a start can be one, so that one is counted by itself. Its dead
        letters are sent again, since nobody knows whether they were.
        """
        rows = checked(batch, self._schema_source.schemas(self._topic), self._rules)
        if self._last_rows is None:
            counts = rows.agg(*self._counts()).first().asDict()
            self._append(rows, batch_id)
        else:
            observation = Observation()
            self._append(rows.observe(observation, *self._counts()), batch_id)
            counts = observation.get
        broken = self._send_dead_letters(rows) if counts["bad"] else {}
        self._record(counts, broken)

    def _append(self, rows: DataFrame, batch_id: int) -> None:
        # A small batch in one file, so that a day of 10-second batches leaves thousands; compaction does the rest.
        small = self._last_rows is not None and self._last_rows < SMALL_BATCH
        (
            bronze_rows(rows, self._watermark())
            .coalesce(1 if small else rows.sparkSession.sparkContext.defaultParallelism)
            .write.format("delta")
            .mode("append")
            .option("mergeSchema", "true")
            .option("txnAppId", f"bronze-writer/{self._topic}")
            .option("txnVersion", batch_id)
            .save(self._path)
        )

    def _send_dead_letters(self, rows: DataFrame) -> dict[str, int]:
        """Send the bad ones of the rows; returns how many broke each rule."""
        bad = rows.where(F.size("reasons") > 0).persist()  # else the batch is read once for each of the two actions
        by_rule = bad.select(F.explode("reasons").alias("rule")).groupBy("rule").count().collect()
        (
            dead_letters(bad, self._topic)
            .write.format("kafka")
            .option("kafka.bootstrap.servers", self._settings.kafka_bootstrap_servers)
            .option("kafka.max.request.size", 10_000_000)
            .option("topic", DEAD_LETTER_TOPIC)
            .option("includeHeaders", "true")
            .save()
        )
        bad.unpersist()
        return {row["rule"]: row["count"] for row in by_rule}

    def _counts(self) -> list[Column]:
        good = F.size("reasons") == 0
        newest = F.max(F.when(good, F.col("event_time"))).alias("newest")
        return [F.count_if(good).alias("good"), F.count_if(~good).alias("bad"), newest]

    def _watermark(self) -> datetime | None:
        return self._newest and self._newest - timedelta(minutes=self._settings.bronze_watermark_minutes)

    def _record(self, counts: dict[str, Any], broken: dict[str, int]) -> None:
        if counts["newest"] is not None:
            self._newest = max(counts["newest"], self._newest or counts["newest"])
        self._last_rows = counts["good"] + counts["bad"]
        record_batch(self._topic, counts["good"], counts["bad"], broken, self._newest)


def start_query(spark: SparkSession, settings: Settings, topic: str, schema_source: SchemaSource) -> StreamingQuery:
    """Start the stream of one topic into its table."""
    table = BronzeTable(spark, settings, topic, schema_source)
    write: Callable[[DataFrame, int], None] = table.write
    return (
        read_kafka(spark, settings, topic)
        .writeStream.queryName(topic)
        .foreachBatch(write)
        .option("checkpointLocation", f"{settings.checkpoint_path}/{TABLES[topic][0]}")
        .trigger(processingTime=f"{settings.bronze_trigger_seconds} seconds")
        .start()
    )


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname.lower(), "message": record.getMessage()})


def set_up_logging() -> None:
    """Our own logs as JSON lines; the Py4J bridge says nothing of interest below a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("py4j", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """Run the two streams until SIGTERM, or until one of them fails; Docker then starts the job again."""
    set_up_logging()
    settings = load_settings()
    spark = build_session(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    spark.streams.addListener(ProgressListener(settings.kafka_bootstrap_servers))
    schema_source = SchemaSource(settings.schema_registry_url)
    queries = [start_query(spark, settings, topic, schema_source) for topic in TABLES]
    log.info("running: %s", ", ".join(TABLES))

    def stop(signum: int, frame: object) -> None:
        for query in queries:
            query.stop()

    signal.signal(signal.SIGTERM, stop)
    with contextlib.suppress(StreamingQueryException):  # said below, in one line
        spark.streams.awaitAnyTermination()
    failed = {query.name: error for query in queries if (error := query.exception()) is not None}
    for name, error in failed.items():
        log.error("%s failed, and goes on from its checkpoint at the next start: %s", name, _cause(error))
    spark.stop()
    sys.exit(1 if failed else 0)


def _cause(error: StreamingQueryException) -> str:
    """The innermost message of a failed batch; what stands around it says only that a batch failed."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line for line in lines if line.startswith(("pyspark.errors", "Caused by", "org.apache", "java."))]
    return (causes or lines)[-1][:500]


if __name__ == "__main__":
    main()

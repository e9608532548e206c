"""The Bronze job's throughput on what the topic has now: the whole job against the same job with a sink that drops all.

Both read, decode, check and count the same messages in the same batches, on the same executors, one after the other.
Both run twice, and the second run counts, when the JVM has compiled the code.
"""

import json
import time
from dataclasses import replace

from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from fraud_common.topics import TRANSACTIONS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery
from spark_jobs.batch_writer import BatchWriter
from spark_jobs.bronze_rows import bronze_rows
from spark_jobs.bronze_table import BronzeTable, bronze_tables, columns, create
from spark_jobs.kafka_topic import KafkaTopic
from spark_jobs.schemas import TopicSchemas
from spark_jobs.session import build_session, read_kafka
from spark_jobs.settings import Settings


class NoTable(BatchWriter):
    """The same job up to the sink."""

    def append(self, rows: DataFrame, batch_id: int | None) -> None:
        """Compute the rows and drop them."""
        bronze_rows(rows, self.late_before()).write.format("noop").mode("overwrite").save()


def rate(query: StreamingQuery) -> float:
    """Rows a second of a query that reads what the topic has, without its first batch, which sets everything up."""
    query.awaitTermination()
    batches = [(p.batchDuration / 1000, p.numInputRows) for p in query.recentProgress if p.numInputRows]
    seconds, rows = (sum(values) for values in zip(*batches[1:], strict=True))
    return float(rows / seconds)


def bench_table(settings: Settings, name: str) -> BronzeTable:
    """A new, empty table of transactions beside the real one."""
    unique = f"bench-{name}-{int(time.time())}"
    table = next(table for table in bronze_tables(settings) if table.topic == TRANSACTIONS)
    return replace(table, path=f"s3a://lakehouse/bronze/{unique}", checkpoint=f"s3a://checkpoints/{unique}")


def measure(spark: SparkSession, settings: Settings, name: str, writer: type[BatchWriter]) -> float:
    """Read the whole topic, batch after batch, into a new table; returns rows a second."""
    table = bench_table(settings, name)
    topic = KafkaTopic(settings, table.topic)
    registry = SchemaRegistry(settings.schema_registry_url)
    schemas = TopicSchemas(spark, registry, table.topic, lambda: columns(spark, table))
    create(spark, table, schemas.current(), topic.topic_id())
    return rate(
        read_kafka(spark, settings, table.topic)
        .writeStream.queryName(f"bench-{name}-{int(time.time())}")
        .foreachBatch(writer(spark, settings, table, topic, schemas).write)
        .option("checkpointLocation", table.checkpoint)
        .trigger(availableNow=True)
        .start()
    )


def main() -> None:
    """Print one line of JSON: rows a second of both, and their ratio."""
    settings = load_settings(Settings)
    spark = build_session(settings)
    for _ in range(2):
        nothing = measure(spark, settings, "noop", NoTable)
        whole = measure(spark, settings, "whole", BatchWriter)
    print(json.dumps({"whole_job": round(whole), "noop_sink": round(nothing), "ratio": round(whole / nothing, 2)}))
    spark.stop()


if __name__ == "__main__":
    main()

"""The Bronze job's throughput, on what the topic holds: the whole job against the same with a sink that drops all.

Both read, decode, check and count the same messages in the same batches, on the same executors, one after the other;
all of it twice, and the second time counts, when the JVM has compiled both.
"""

import json
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from spark_jobs.bronze_writer import BronzeTable, bronze_rows, build_session, read_kafka
from fraud_common.schema_registry import SchemaSource
from spark_jobs.settings import load_settings

TOPIC = "transactions.raw"


class NoTable(BronzeTable):
    """The same job up to the sink."""

    def _append(self, rows: DataFrame, batch_id: int) -> None:
        bronze_rows(rows, self._watermark()).write.format("noop").mode("overwrite").save()


def rate(query: StreamingQuery) -> float:
    """Rows a second of a query that reads what there is; its first batch, which sets everything up, is left out."""
    query.awaitTermination()
    batches = [(p.batchDuration / 1000, p.numInputRows) for p in query.recentProgress if p.numInputRows]
    seconds, rows = (sum(values) for values in zip(*batches[1:], strict=True))
    return float(rows / seconds)


def measure(spark: SparkSession, name: str, table: type[BronzeTable], schema_source: SchemaSource) -> float:
    """Read the whole topic, back to back, into a new table; returns rows a second."""
    place = f"bench-{name}-{int(time.time())}"
    settings = load_settings(
        bronze_path=f"s3a://lakehouse/bronze/{place}", checkpoint_path=f"s3a://checkpoints/{place}"
    )
    write = table(spark, settings, TOPIC, schema_source).write
    return rate(
        read_kafka(spark, settings, TOPIC)
        .writeStream.queryName(place)
        .foreachBatch(write)
        .option("checkpointLocation", settings.checkpoint_path)
        .trigger(availableNow=True)
        .start()
    )


def main() -> None:
    """Print one line of JSON: rows a second of both, and their ratio."""
    settings = load_settings()
    spark = build_session(settings)
    schema_source = SchemaSource(settings.schema_registry_url)
    for _ in range(2):
        nothing = measure(spark, "noop", NoTable, schema_source)
        whole = measure(spark, "whole", BronzeTable, schema_source)
    print(json.dumps({"whole_job": round(whole), "noop_sink": round(nothing), "ratio": round(whole / nothing, 2)}))
    spark.stop()


if __name__ == "__main__":
    main()

"""The Bronze job's measurements, on what the topic holds: the whole job against the same with a sink that drops all.

Both read the same messages in the same batches, on the same executors, one after the other.
"""

import json
import sys
import time
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession

from streaming.bronze_writer import BronzeTable, bronze_rows, build_session, checked, read_kafka
from streaming.quality_checks import TRANSACTION_RULES
from streaming.registry import SchemaSource
from streaming.settings import Settings, load_settings

TOPIC = "transactions.raw"


def timed(spark: SparkSession, settings: Settings, name: str, write: Callable[[DataFrame, int], None]) -> float:
    """Read the whole topic through `write`, back to back; returns rows a second, the first (warm-up) batch left out."""
    query = (
        read_kafka(spark, settings, TOPIC)
        .writeStream.queryName(name)
        .foreachBatch(write)
        .option("checkpointLocation", f"{settings.checkpoint_path}/{name}")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    batches = [(p.batchDuration / 1000, p.numInputRows) for p in query.recentProgress if p.numInputRows]
    seconds, rows = (sum(values) for values in zip(*batches[1:], strict=True))
    return rows / seconds


def main() -> None:
    """Print one line of JSON: rows a second of both, and their ratio."""
    run = f"{int(time.time())}"
    settings = load_settings(
        bronze_path=f"s3a://lakehouse/bronze/bench-{run}", checkpoint_path=f"s3a://checkpoints/bench-{run}"
    )
    spark = build_session(settings)
    schema_source = SchemaSource(settings.schema_registry_url)

    def write_nothing(batch: DataFrame, batch_id: int) -> None:
        rows = checked(batch, schema_source.schemas(TOPIC), TRANSACTION_RULES)
        bronze_rows(rows, None).write.format("noop").mode("overwrite").save()

    nothing = timed(spark, settings, "noop", write_nothing)
    whole = timed(spark, settings, "whole", BronzeTable(spark, settings, TOPIC, schema_source).write)
    print(json.dumps({"whole_job": round(whole), "noop_sink": round(nothing), "ratio": round(whole / nothing, 2)}))
    spark.stop()
    sys.exit(0)


if __name__ == "__main__":
    main()

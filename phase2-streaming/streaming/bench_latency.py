"""How long after Kafka had a payment could it be seen in Bronze: over the last minutes of a running stack.

A row is visible from the commit of its batch on; a batch's rows share their load time, and its commit is the first
after that.
"""

import json
import sys
from bisect import bisect_left

from delta.tables import DeltaTable
from pyspark.sql import functions as F

from streaming.bronze_writer import build_session
from streaming.settings import load_settings


def main() -> None:
    """Print one line of JSON: rows looked at, and the median and 95th percentile in seconds."""
    minutes = int(sys.argv[1])
    settings = load_settings()
    spark = build_session(settings)
    path = f"{settings.bronze_path}/transactions"
    writes = DeltaTable.forPath(spark, path).history().where("operation = 'WRITE'")
    commits = sorted(row["timestamp"] for row in writes.select("timestamp").collect())
    rows = spark.read.format("delta").load(path)
    since = rows.agg(F.max("loaded_at") - F.expr(f"interval {minutes} minutes")).first()[0]
    recent = rows.where(F.col("loaded_at") >= F.lit(since)).select("kafka_timestamp", "loaded_at").collect()
    seconds = sorted(
        (commits[bisect_left(commits, row["loaded_at"])] - row["kafka_timestamp"]).total_seconds() for row in recent
    )
    median, p95 = (round(seconds[int(len(seconds) * share)], 1) for share in (0.5, 0.95))
    print(json.dumps({"rows": len(seconds), "median_s": median, "p95_s": p95}))
    spark.stop()


if __name__ == "__main__":
    main()

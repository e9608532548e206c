"""Rows that Bronze refuses, as messages of the dead letter topic."""

from fraud_common import dead_letters as header
from fraud_common.topics import DEAD_LETTERS, MAX_DEAD_LETTER_BYTES
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def dead_letters(rows: DataFrame, topic: str) -> DataFrame:
    """Bad rows as messages: original key, value and headers, everything else in headers of our own.

    Args:
        rows: checked rows with at least one reason.
        topic: where the rows came from.
    """
    sent_before = f"get(filter(kafka_headers, h -> h.key = '{header.ATTEMPTS}'), 0).value"
    attempts = F.expr(f"try_cast(string({sent_before}) as int)")
    headers: dict[str, Column] = {
        header.STAGE: F.lit("bronze"),
        header.REASONS: F.array_join("reasons", ","),
        header.ERROR: F.concat(F.lit("refused by Bronze: "), F.array_join("reasons", ", ")),
        header.TOPIC: F.lit(topic),
        header.PARTITION: F.col("kafka_partition").cast("string"),
        header.OFFSET: F.col("kafka_offset").cast("string"),
        header.FAILED_AT: F.date_format(F.current_timestamp(), "yyyy-MM-dd'T'HH:mm:ss.SSS'+00:00'"),
        # A message that was sent back from the dead letter topic carries the number of its failures so far.
        header.ATTEMPTS: (F.coalesce(attempts, F.lit(0)) + 1).cast("string"),
    }
    original = F.expr(f"coalesce(filter(kafka_headers, h -> not startswith(h.key, '{header.PREFIX}')), array())")
    as_headers = [
        F.struct(F.lit(name).alias("key"), text.cast("binary").alias("value")) for name, text in headers.items()
    ]
    return rows.select(
        F.col("kafka_key").alias("key"),
        F.col("kafka_value").alias("value"),
        F.concat(original, F.array(*as_headers)).alias("headers"),
    )


def send_dead_letters(rows: DataFrame, topic: str, bootstrap_servers: str) -> dict[str, int]:
    """Send bad rows to the dead letter topic.

    Returns:
        how many rows have each reason.
    """
    rows = rows.persist()  # otherwise the batch is read once for each of the two actions
    by_reason = rows.select(F.explode("reasons").alias("reason")).groupBy("reason").count().collect()
    (
        dead_letters(rows, topic)
        .write.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap_servers)
        .option("kafka.max.request.size", MAX_DEAD_LETTER_BYTES)
        .option("topic", DEAD_LETTERS)
        .option("includeHeaders", "true")
        .save()
    )
    rows.unpersist()
    return {row["reason"]: row["count"] for row in by_reason}

"""From Kafka records to the rows of a Bronze table: decode, check, and add where and when each row came from."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_jobs.decode import decoded, field_names, undecodable, with_kafka_columns
from spark_jobs.quality_checks import TEXT_INVALID, any_of, is_text_invalid, rule_violations
from spark_jobs.schemas import Schemas

# What Bronze adds to the decoded fields.
LOAD_COLUMNS = ("schema_id", "kafka_partition", "kafka_offset", "kafka_timestamp", "loaded_at", "is_late", "event_date")


def checked(batch: DataFrame, schemas: Schemas, rules: dict[str, str]) -> DataFrame:
    """Decode a batch and name what is wrong with each row.

    Returns:
        the Kafka columns, the decoded fields, and `reasons`: why it could not be decoded, or the names of all rules
        that it violates; empty for a good row.
    """
    with_record = with_kafka_columns(batch).withColumn("record", decoded(schemas))
    flat = with_record.select("*", "record.*").drop("record").withColumn("undecodable", undecodable(schemas))
    texts = [is_text_invalid(F.col(name), flat.schema[name].dataType) for name in field_names(schemas)]
    # One condition for all texts, since the fields that other versions add may be some, too.
    text_invalid = any_of([text for text in texts if text is not None])
    violations = rule_violations(rules, {} if text_invalid is None else {TEXT_INVALID: text_invalid})
    reasons = F.when(F.col("undecodable").isNotNull(), F.array("undecodable")).otherwise(violations)
    return flat.withColumn("reasons", reasons).drop("undecodable")


def good(rows: DataFrame) -> DataFrame:
    """The checked rows that nothing is wrong with."""
    return rows.where(F.size("reasons") == 0)


def bad(rows: DataFrame) -> DataFrame:
    """The checked rows that become dead letters."""
    return rows.where(F.size("reasons") > 0)


def bronze_rows(rows: DataFrame, late_before: datetime | None) -> DataFrame:
    """The good rows as Bronze stores them: the decoded fields unmodified, and where and when they came from.

    Args:
        rows: checked rows.
        late_before: an event before this time is marked late; None while no event has been seen.
    """
    fields = [c for c in rows.columns if not c.startswith("kafka_") and c not in ("schema_id", "reasons")]
    is_late = F.col("event_time") < F.lit(late_before) if late_before else F.lit(False)
    return (
        good(rows)
        .withColumn("schema_id", F.col("schema_id").try_cast("int"))
        .withColumn("loaded_at", F.current_timestamp())
        .withColumn("is_late", is_late)
        .withColumn("event_date", F.to_date("event_time"))
        .select(*fields, *LOAD_COLUMNS)
    )

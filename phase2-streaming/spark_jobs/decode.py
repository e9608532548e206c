"""Kafka records to columns: the Confluent wire format, each message by the schema that wrote it."""

import json
from collections.abc import Collection
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from spark_jobs.schemas import Schemas

# A zero byte, and the schema id in four bytes, big-endian.
HEADER_BYTES = 5
# Why a message is refused whose schema id the registry does not list.
SCHEMA_UNKNOWN = "schema_unknown"


def with_kafka_columns(source: DataFrame) -> DataFrame:
    """The source's columns under the platform's names, and the schema id (null where there is no wire format)."""
    in_wire_format = (F.length("value") > HEADER_BYTES) & (F.substring("value", 1, 1) == F.lit(b"\0"))
    # Garbage may have any number up to 2^32, which does not fit an int.
    schema_id = F.conv(F.hex(F.substring("value", 2, 4)), 16, 10).cast("bigint")
    return source.select(
        F.col("key").alias("kafka_key"),
        F.col("value").alias("kafka_value"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.col("timestamp").alias("kafka_timestamp"),
        F.col("headers").alias("kafka_headers"),
        F.when(in_wire_format, schema_id).alias("schema_id"),
    )


def decoded(schemas: Schemas) -> Column:
    """The record as a struct of all known fields; all of them are null where it can't be decoded."""
    body = F.expr(f"substring(kafka_value, {HEADER_BYTES + 1})")
    record = from_avro(F.lit(None).cast("binary"), schemas.reader, {"mode": "PERMISSIVE"})
    for schema_id, schema in schemas.by_id.items():
        by_writer = from_avro(body, schema, {"mode": "PERMISSIVE", "avroSchema": schemas.reader})
        record = F.when(F.col("schema_id") == schema_id, by_writer).otherwise(record)
    return record


def undecodable(schemas: Schemas) -> Column:
    """Why a message could not be decoded, by name; null where it could. For rows with the decoded fields as columns."""
    # Some field of every record is required, so a record without any value is one that failed.
    nothing_decoded = reduce(and_, (F.col(name).isNull() for name in field_names(schemas)))
    return (
        F.when(F.col("kafka_value").isNull() | (F.length("kafka_value") == 0), "value_empty")
        .when(F.col("schema_id").isNull(), "not_wire_format")
        .when(_is_one_of(schemas.refused), "schema_refused")
        .when(~_is_one_of(schemas.by_id), SCHEMA_UNKNOWN)
        .when(nothing_decoded, "undecodable")
    )


def field_names(schemas: Schemas) -> list[str]:
    """The fields of a decoded record."""
    return [field["name"] for field in json.loads(schemas.reader)["fields"]]


def _is_one_of(ids: Collection[int]) -> Column:
    return F.col("schema_id").isin(*ids) if ids else F.lit(False)

"""The schemas of a topic's messages, by the ids that the messages carry.

Whatever the registry holds, Bronze reads with the schemas that it has: a version that can't be used is refused, logged
and counted (alert BronzeSchemaRefused), and everything else continues.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fraud_common.errors import UserError
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.schema_rules import record_name, usable_versions
from fraud_common.topics import own_schema, subject_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro
from pyspark.sql.types import StructType

from spark_jobs.progress import SCHEMAS_REFUSED

log = logging.getLogger("schemas")

# Garbage may carry any id: this many are asked for in a batch, and again after a while only.
MAX_IDS_IN_A_BATCH = 100
_ASK_AGAIN_SECONDS = 30.0
_MAX_UNKNOWN_IDS = 10_000
_MAX_ID = 2**31 - 1

# Types of Spark that a Delta table can't store.
_NOT_STORABLE = re.compile(r"(?:^|[:<,])(void|variant|interval|time\(\d\))(?=$|[\s,>])")


@dataclass(frozen=True)
class Schemas:
    """How the messages of a topic are read."""

    by_id: dict[int, str]  # schema id -> the schema that wrote the message, JSON text
    reader: str  # the schema that all messages are read as
    refused: dict[int, str] = field(default_factory=dict)  # schema id -> why its messages become dead letters


class TopicSchemas:
    """The schemas of one topic, as far as they are known."""

    def __init__(
        self, spark: SparkSession, registry: SchemaRegistry, topic: str, table_schema: Callable[[], StructType]
    ) -> None:
        """Nothing is asked yet.

        Args:
            table_schema: the columns that the Bronze table has now.
        """
        own = own_schema(topic)
        if own is None:
            raise ValueError(f"{topic} has no schema")
        self._spark, self._registry, self._topic, self._own = spark, registry, topic, own
        self._table_schema = table_schema
        self._seen: tuple[tuple[int, str], ...] | None = None  # what the last decision was about
        self._by_id: dict[int, str] = {}  # asked for by id, since the registry no longer lists them
        self._unknown: dict[int, float] = {}  # schema id -> when to ask again
        self._schemas = Schemas({}, own)

    def current(self) -> Schemas:
        """The schemas as of now.

        A schema is registered before the first message that uses it. So when this is called after the offsets of a
        batch are fixed, the result has every listed schema of the batch. While the registry does not answer, the batch
        waits: without schemas it would refuse every message.
        """
        try:
            versions = self._registry.until_answered(lambda: self._registry.known_versions(self._topic))
        except UserError as error:
            log.error("%s; Bronze uses the schemas that it has", error)
            return self._schemas
        if not versions:
            log.error("%s: nothing is registered; Bronze uses the schemas that it has", subject_of(self._topic))
        self._decide(versions)
        SCHEMAS_REFUSED.labels(self._topic).set(sum(schema_id in self._schemas.refused for schema_id, _ in versions))
        return self._schemas

    def find(self, ids: Iterable[int]) -> Schemas | None:
        """Ask the registry by id for schemas that it doesn't list, such as those of deleted versions.

        Args:
            ids: unknown ids of a batch, the most frequent first; only the first ones are asked for.

        Returns:
            the schemas with those that were found; None if nothing was found.
        """
        now = time.monotonic()
        new = [i for i in ids if 0 < i <= _MAX_ID and now >= self._unknown.get(i, 0.0)][:MAX_IDS_IN_A_BATCH]
        found = {schema_id: text for schema_id in new if (text := self._ask(schema_id)) is not None}
        if not found:
            return None
        self._by_id |= found
        self._decide(list(self._seen or ()))
        return self._schemas

    def _ask(self, schema_id: int) -> str | None:
        try:
            text = self._registry.until_answered(lambda: self._registry.schema(schema_id))
        except UserError:  # the registry refuses such an id
            text = None
        if text is not None and record_name(text) == record_name(self._own):
            return text
        if len(self._unknown) >= _MAX_UNKNOWN_IDS:
            self._unknown.clear()
        self._unknown[schema_id] = time.monotonic() + _ASK_AGAIN_SECONDS
        return None

    def _decide(self, versions: list[tuple[int, str]]) -> None:
        """Take over what can be used. What is in use stays, whether the registry still lists it or not."""
        candidates = self._schemas.by_id | dict(versions) | self._by_id
        if tuple(candidates.items()) == self._seen:
            return
        self._seen = tuple(candidates.items())
        accepted: list[tuple[int, str]] = []
        refused: dict[int, str] = {}
        for pair in self._seen:
            usable = usable_versions(self._own, [*accepted, pair])
            problem = usable.refused.get(pair[0]) or self._spark_problem(pair[1], usable.reader)
            if problem:
                refused[pair[0]] = problem
            else:
                accepted.append(pair)
        for schema_id, problem in refused.items():
            if self._schemas.refused.get(schema_id) != problem:
                log.error(
                    "%s: schema %d is not used (%s); its messages become dead letters, see BronzeSchemaRefused in "
                    "docs/runbook.md",
                    subject_of(self._topic),
                    schema_id,
                    problem,
                )
        self._schemas = Schemas(dict(accepted), usable_versions(self._own, accepted).reader, refused)

    def _spark_problem(self, writer: str, reader: str) -> str | None:
        """Why Spark can't read a schema, or the Bronze table can't store it; None if both can."""
        try:
            read_type(self._spark, writer)
            columns = read_type(self._spark, reader)
        except Exception as error:  # whatever the Java code of Avro or Spark raises
            return f"Spark can't read it: {str(error).splitlines()[0]:.300}"
        existing = {column.name.lower(): column for column in self._table_schema()}
        for column in columns:
            kind = column.dataType.simpleString()
            if _NOT_STORABLE.search(kind):
                return f"{column.name}: Bronze can't store the type {kind}"
            there = existing.get(column.name.lower())
            if there is not None and there.dataType.simpleString() != kind:
                return f"{column.name}: Bronze has a column of this name with type {there.dataType.simpleString()}"
        return None


def read_type(spark: SparkSession, schema: str) -> StructType:
    """The columns as which Spark reads records of a schema.

    Raises:
        Exception: it can't; of any class, since Spark passes on what Avro raises.
    """
    records = spark.createDataFrame([], "value binary").select(from_avro(F.col("value"), schema).alias("record"))
    return records.select("record.*").schema

"""The Bronze writer: every Kafka record once into Delta, or into the dead letter topic.

Upstream are the producer and replay, downstream the dbt models.
"""

import contextlib
import logging
import signal
import sys

from fraud_common.errors import one_line_errors
from fraud_common.logs import set_up_logging
from fraud_common.memory_metrics import ContainerMemory
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from prometheus_client import REGISTRY, start_http_server
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from spark_jobs.batch_writer import BatchWriter
from spark_jobs.bronze_table import (
    BronzeTable,
    bronze_tables,
    columns,
    create,
    exists,
    next_offsets,
    record_topic_id,
    topic_id_of,
)
from spark_jobs.kafka_topic import KafkaTopic, TopicState
from spark_jobs.progress import EXPIRED, STOPPED, ProgressListener
from spark_jobs.schemas import TopicSchemas
from spark_jobs.session import build_session, read_kafka
from spark_jobs.settings import Settings
from spark_jobs.start_point import (
    Checkpoint,
    Found,
    Offsets,
    TopicRecreated,
    needs_table,
    start_point,
    starting_offsets,
)

log = logging.getLogger("bronze")


def main() -> None:
    """Run a stream for each table until SIGTERM, or until one of them fails; Docker then restarts the job.

    A stream that a person must look at first is not started; the job is unhealthy then.
    """
    set_up_logging()
    with one_line_errors():
        settings = load_settings(Settings)
        spark = build_session(settings)
        report_progress(spark, settings)
        registry = SchemaRegistry(settings.schema_registry_url)
        queries = start_queries(spark, settings, registry)
    log.info("running: %s", ", ".join(str(query.name) for query in queries))
    stop_on_sigterm(queries)
    failed = wait_for_end(spark, queries)
    spark.stop()
    sys.exit(1 if failed else 0)


def report_progress(spark: SparkSession, settings: Settings) -> None:
    """Serve /metrics, and publish the offsets of each batch in Kafka."""
    if settings.metrics_port:
        REGISTRY.register(ContainerMemory())
        start_http_server(settings.metrics_port)
    spark.streams.addListener(ProgressListener(settings.kafka_bootstrap_servers))


def start_queries(spark: SparkSession, settings: Settings, registry: SchemaRegistry) -> list[StreamingQuery]:
    """Start the streams. One that must not start is reported, and the others run."""
    queries = []
    for table in bronze_tables(settings):
        STOPPED.labels(table.topic, "topic_recreated").set(0)
        try:
            queries.append(start_query(spark, settings, table, registry))
        except TopicRecreated as error:
            STOPPED.labels(table.topic, "topic_recreated").set(1)
            log.error("%s", error)
    return queries


def start_query(
    spark: SparkSession, settings: Settings, table: BronzeTable, registry: SchemaRegistry
) -> StreamingQuery:
    """Start the stream of one topic into its table, where the last one ended.

    Raises:
        TopicRecreated: the topic is not the one that the table's rows come from.
    """
    topic = KafkaTopic(settings, table.topic)
    schemas = TopicSchemas(spark, registry, table.topic, lambda: columns(spark, table))
    now = topic.state()
    if exists(spark, table):
        begin = where_to_begin(spark, table, now)
    else:
        create(spark, table, schemas.current(), now.topic_id)
        begin = {}
        if Checkpoint(spark, table.checkpoint).next_offsets(table.topic) is not None:  # of a table that is gone
            Checkpoint(spark, table.checkpoint).set_aside()
    writer = BatchWriter(spark, settings, table, topic, schemas)
    position = Checkpoint(spark, table.checkpoint).next_offsets(table.topic) or begin
    if position:  # a batch that was not finished may have left rows in the table
        writer.expect_again(
            next_offsets(spark, table, {partition: position.get(partition, 0) for partition in now.available})
        )
    return (
        read_kafka(spark, settings, table.topic, starting_offsets(table.topic, begin))
        .writeStream.queryName(table.topic)
        .foreachBatch(writer.write)
        .option("checkpointLocation", table.checkpoint)
        .trigger(processingTime=f"{settings.bronze_trigger_seconds} seconds")
        .start()
    )


def where_to_begin(spark: SparkSession, table: BronzeTable, now: TopicState) -> Offsets:
    """Decide where the stream of an existing table starts, and set aside a checkpoint that can't be used.

    Returns:
        the offsets to begin with where there is no checkpoint; empty for the topic's beginning.

    Raises:
        TopicRecreated: the topic is not the one that the table's rows come from.
    """
    checkpoint = Checkpoint(spark, table.checkpoint)
    position, topic_id = checkpoint.next_offsets(table.topic), topic_id_of(spark, table)
    in_table = next_offsets(spark, table) if needs_table(position, topic_id, now) else {}
    start = start_point(table.topic, Found(position, in_table, topic_id), now)
    if topic_id != now.topic_id:
        record_topic_id(spark, table, now.topic_id)
    EXPIRED.labels(table.topic).set(start.expired)
    if start.expired:
        log.error(
            "%s: Kafka deleted %d messages before Bronze read them; see BronzeMessagesExpired in docs/runbook.md",
            table.topic,
            start.expired,
        )
    if start.offsets is None:
        return {}
    if position is not None:
        checkpoint.set_aside()
    elif in_table:
        log.warning("%s: there is no checkpoint; Bronze reads on behind the rows that it has", table.topic)
    return start.offsets


def stop_on_sigterm(queries: list[StreamingQuery]) -> None:
    """End all streams at SIGTERM."""

    def stop(signum: int, frame: object) -> None:
        for query in queries:
            query.stop()
        if not queries:
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)


def wait_for_end(spark: SparkSession, queries: list[StreamingQuery]) -> bool:
    """Wait until the streams are stopped or one of them fails.

    Returns:
        whether one failed; the log says why.
    """
    if not queries:
        signal.pause()  # until SIGTERM, so that the metrics say what is wrong
    with contextlib.suppress(StreamingQueryException):  # logged below, in one line
        spark.streams.awaitAnyTermination()
    failed = {query.name: error for query in queries if (error := query.exception()) is not None}
    for name, error in failed.items():
        log.error("%s failed; the next start resumes from its checkpoint: %s", name, _cause(error))
    return bool(failed)


def _cause(error: StreamingQueryException) -> str:
    """The innermost message of a failed batch; the lines around it say only that a batch failed."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line for line in lines if line.startswith(("pyspark.errors", "Caused by", "org.apache", "java."))]
    return (causes or lines)[-1][:500]


if __name__ == "__main__":
    main()

"""The Bronze writer: every Kafka record once into Delta, or into the dead letter topic.

Upstream are the producer and replay, downstream the dbt models.
"""

import contextlib
import logging
import signal
import sys

from fraud_common.errors import one_line_errors
from fraud_common.logs import set_up_logging
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from prometheus_client import start_http_server
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from spark_jobs.batch_writer import BatchWriter
from spark_jobs.bronze_table import BronzeTable, bronze_tables
from spark_jobs.progress import ProgressListener
from spark_jobs.session import build_session, read_kafka
from spark_jobs.settings import Settings

log = logging.getLogger("bronze")


def main() -> None:
    """Run a stream for each table until SIGTERM, or until one of them fails; Docker then restarts the job."""
    set_up_logging()
    with one_line_errors():
        settings = load_settings(Settings)
        spark = build_session(settings)
        report_progress(spark, settings)
        registry = SchemaRegistry(settings.schema_registry_url)
        queries = [start_query(spark, settings, table, registry) for table in bronze_tables(settings)]
    log.info("running: %s", ", ".join(str(query.name) for query in queries))
    stop_on_sigterm(queries)
    failed = wait_for_end(spark, queries)
    spark.stop()
    sys.exit(1 if failed else 0)


def report_progress(spark: SparkSession, settings: Settings) -> None:
    """Serve /metrics, and publish the offsets of each batch in Kafka."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    spark.streams.addListener(ProgressListener(settings.kafka_bootstrap_servers))


def start_query(
    spark: SparkSession, settings: Settings, table: BronzeTable, registry: SchemaRegistry
) -> StreamingQuery:
    """Start the stream of one topic into its table; it resumes from the table's checkpoint."""
    return (
        read_kafka(spark, settings, table.topic)
        .writeStream.queryName(table.topic)
        .foreachBatch(BatchWriter(spark, settings, table, registry).write)
        .option("checkpointLocation", table.checkpoint)
        .trigger(processingTime=f"{settings.bronze_trigger_seconds} seconds")
        .start()
    )


def stop_on_sigterm(queries: list[StreamingQuery]) -> None:
    """End all streams at SIGTERM."""

    def stop(signum: int, frame: object) -> None:
        for query in queries:
            query.stop()

    signal.signal(signal.SIGTERM, stop)


def wait_for_end(spark: SparkSession, queries: list[StreamingQuery]) -> bool:
    """Wait until the streams are stopped or one of them fails.

    Returns:
        whether one failed; the log says why.
    """
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

"""The Spark session of the Bronze writer, and Kafka as its source."""

from pyspark.sql import DataFrame, SparkSession

from spark_jobs.settings import Settings


def build_session(settings: Settings) -> SparkSession:
    """The session; master and resources come from spark-submit."""
    session = (
        SparkSession.builder.appName("bronze-writer")
        .config("spark.hadoop.fs.s3a.endpoint", settings.s3_endpoint)
        .config("spark.hadoop.fs.s3a.access.key", settings.s3_access_key)
        .config("spark.hadoop.fs.s3a.secret.key", settings.s3_secret_key)
        # Retry for seconds, not minutes: while MinIO is away the job ends; the next start resumes from the checkpoint.
        .config("spark.hadoop.fs.s3a.attempts.maximum", "5")
        .config("spark.hadoop.fs.s3a.retry.limit", "5")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("WARN")
    return session


def read_kafka(spark: SparkSession, settings: Settings, topic: str, starting_offsets: str = "earliest") -> DataFrame:
    """The topic as a stream; missing offsets end the job instead of being skipped.

    Args:
        starting_offsets: where to begin without a checkpoint, as Spark's option of this name.
    """
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        .option("subscribe", topic)
        .option("startingOffsets", starting_offsets)
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
        # A task reads its partitions one after the other, and may wait at each for a fetch that finds nothing new.
        .option("kafka.fetch.max.wait.ms", 20)
        .option("maxOffsetsPerTrigger", settings.bronze_max_offsets_per_trigger)
        .load()
    )

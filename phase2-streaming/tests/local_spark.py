"""A local Spark session with Delta, for tests that need no cluster."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A Spark session of the test's own, without a cluster."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # With the limits that the cluster has.
    os.environ["SPARK_CONF_DIR"] = str(Path(__file__).parents[2] / "infra" / "spark" / "conf")
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.databricks.delta.snapshotPartitions", "1")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .getOrCreate()
    )
    yield session
    session.stop()

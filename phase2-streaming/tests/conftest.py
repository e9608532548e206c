import os
from pathlib import Path

import pytest
from producer.settings import Settings, load_settings
from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Where the stack that the tests run in is."""
    return load_settings()


@pytest.fixture(scope="session")
def producer_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of the one simulated stream that all tests send parts of: Bronze reads the topics from end to end."""
    return tmp_path_factory.mktemp("producer")


@pytest.fixture(scope="session")
def spark() -> SparkSession:
    """A Spark of the test's own, without a cluster."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    return SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()

from pathlib import Path

import pytest
from fraud_common.settings import load_settings
from local_spark import spark  # noqa: F401 - a fixture
from producer.settings import Settings


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The settings of the stack that the tests run in."""
    return load_settings(Settings)


@pytest.fixture(scope="session")
def producer_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of the one simulated stream that all tests send parts of: Bronze reads the topics from end to end."""
    return tmp_path_factory.mktemp("producer")

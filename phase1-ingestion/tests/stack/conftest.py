import pytest
from fraud_common.settings import load_settings
from ingestion_stack import fresh_topics
from producer.settings import Settings


@pytest.fixture
def settings() -> Settings:
    """The settings of the stack that the tests run in, with empty topics."""
    settings = load_settings(Settings)
    fresh_topics(settings)
    return settings

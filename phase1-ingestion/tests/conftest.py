import pytest
from producer.settings import Settings, load_settings
from stack import fresh_topics


@pytest.fixture
def settings() -> Settings:
    """The settings of the stack that the tests run in, with empty topics."""
    settings = load_settings()
    fresh_topics(settings)
    return settings

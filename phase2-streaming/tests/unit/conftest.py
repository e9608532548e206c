from local_spark import spark  # noqa: F401 - a fixture

"""The stack that the API's tests need. Imports are in the fixtures: the training image has other packages."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx2
    from example_model import ExampleModel


@pytest.fixture(scope="session")
def example() -> "ExampleModel":
    """A small forest."""
    from example_model import example_model

    return example_model(trees=50, depth=8)


@pytest.fixture(scope="session")
def example_files(example: "ExampleModel") -> tuple[bytes, dict]:
    """The two files that serving takes."""
    return example.onnx, example.described


@pytest.fixture(scope="session")
def production(example: "ExampleModel") -> str:
    """The version of a model in Production that the API serves."""
    from example_model import publish
    from serving_stack import MLFLOW_URL, all_workers, ready, wait_until

    wait_until(ready, "the API answers")
    version = publish(MLFLOW_URL, example.onnx, example.described, example.background)
    wait_until(lambda: all_workers(lambda answer: answer.get("model_version") == version), "the model is served", 60)
    return version


@pytest.fixture
def healthy(production: str) -> str:
    """Nothing is degraded, and Redis has the known users; returns the version that scores."""
    from serving_stack import all_workers, fill_redis, ready, wait_until

    fill_redis()
    wait_until(lambda: all_workers(lambda answer: answer.get("status") == "ok"), "nothing degraded", 90)
    return ready()["model_version"]


@pytest.fixture
def api(healthy: str) -> "Iterator[httpx2.Client]":
    """A client of the API."""
    import httpx2
    from serving_stack import API_URL

    with httpx2.Client(base_url=API_URL, timeout=30) as client:
        yield client

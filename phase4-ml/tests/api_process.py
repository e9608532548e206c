"""An API in a process of the tests' own, which needs no other service, and what all tests of the API share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

PAYMENT = {
    "transaction_id": "t1",
    "user_id": "U1234",
    "amount": 500,
    "merchant_id": "M001",
    "is_international": False,
}


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Wait until the condition is true, and return its value."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return result


@dataclass(frozen=True, slots=True)
class OwnApi:
    """A process of the API, and a client of it."""

    client: httpx2.Client
    process: subprocess.Popen[bytes]


@contextmanager
def own_process(state_dir: Path, program: Sequence[str] = ("serving",), **settings: Any) -> Iterator[OwnApi]:
    """An API with other settings, in a process of this container.

    Args:
        program: the module that runs it, with its arguments.
    """
    environment = {name.upper(): str(value) for name, value in settings.items()}
    environment = os.environ | {"STATE_DIR": str(state_dir), "API_PORT": "8765", "API_WORKERS": "1"} | environment
    log = (state_dir / "log").open("w+")
    process = subprocess.Popen([sys.executable, "-m", *program], env=environment, stderr=log)
    try:
        with httpx2.Client(base_url="http://localhost:8765", timeout=10) as client:
            wait_until(lambda: process.poll() is not None or _answers(client), "the API answers", 60)
            assert process.poll() is None, Path(log.name).read_text()
            yield OwnApi(client, process)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def own_api(state_dir: Path, **settings: Any) -> Iterator[httpx2.Client]:
    """A client of an API with other settings, in a process of this container."""
    with own_process(state_dir, **settings) as api:
        yield api.client


def metric_of(client: httpx2.Client, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    total = 0.0
    for line in client.get("/metrics").text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            total += float(line.rpartition(" ")[2])
    return total


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx2.HTTPError:
        return False

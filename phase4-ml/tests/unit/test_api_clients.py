"""Clients that hang up or are slow, and background tasks that fail: none of it is an error of the API's answers."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from api_process import PAYMENT, metric_of, own_api, wait_until
from rules.access import People
from serving import background, metrics
from serving.api_keys import ApiKeys
from serving.background import keep_running
from serving.middleware import MAX_BYTES_IN_HAND, RequestChecks
from serving.settings import MAX_REQUEST_BYTES
from starlette.types import Message, Receive, Scope, Send

BODY = json.dumps(PAYMENT).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    BODY
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """An API whose clients have a second for a request."""
    folder: Path = tmp_path_factory.mktemp("api")
    nowhere = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}
    with own_api(folder, request_seconds=1, redis_port=1, postgres_port=1, **nowhere) as client:
        yield client


def connect(api: httpx2.Client) -> socket.socket:
    return socket.create_connection((api.base_url.host, api.base_url.port), timeout=10)


def read(connection: socket.socket) -> bytes:
    """All that comes until the API closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def requests_by_status(api: httpx2.Client, status: str) -> float:
    return metric_of(api, "fraud_requests_total", path="/predict", status=status)


def test_a_client_that_hangs_up_in_mid_body_is_no_error_of_ours(api: httpx2.Client) -> None:
    """B7: 499, which is not among the errors that raise ApiErrorRateHigh."""
    for sent in (HEAD, HEAD + BODY[:10]):
        with connect(api) as connection:
            connection.sendall(sent)
    wait_until(lambda: requests_by_status(api, "499") == 2, "both are counted", 10)
    assert requests_by_status(api, "500") == 0


def test_a_body_that_does_not_arrive_in_time_is_a_408(api: httpx2.Client) -> None:
    with connect(api) as connection:
        connection.sendall(HEAD + BODY[:10])
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within" in answer
    assert requests_by_status(api, "408") == 1


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", HEAD[:-2]])
def test_a_head_that_does_not_arrive_in_time_costs_the_connection(api: httpx2.Client, sent: bytes) -> None:
    with connect(api) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        assert read(connection) == b""
        assert 0.9 < time.monotonic() - started < 5


def test_a_second_head_on_a_connection_has_the_same_time(api: httpx2.Client) -> None:
    with connect(api) as connection:
        connection.sendall(HEAD + BODY + HEAD[:20])
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1") == 1


def test_many_large_requests_at_once_do_not_fill_the_memory() -> None:
    """Each is within its limits; what is too much for all together is refused, and there is room again afterwards."""
    size = MAX_REQUEST_BYTES - 1
    fitting = MAX_BYTES_IN_HAND // size
    statuses: list[int] = []
    rest = asyncio.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def request(checks: RequestChecks) -> None:
        parts = iter([(bytes(size), True), (b"}", False)])

        async def receive() -> Message:
            body, more_body = next(parts)
            if not more_body:
                await rest.wait()
            return {"type": "http.request", "body": body, "more_body": more_body}

        await checks({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, send)

    async def run() -> None:
        checks = RequestChecks(app, ApiKeys([], ""), People([]), None, MAX_REQUEST_BYTES, max_seconds=60)
        slow = [asyncio.create_task(request(checks)) for _ in range(fitting + 3)]
        while len(statuses) < 3 and not any(task.done() and task.exception() for task in slow):
            await asyncio.sleep(0)
        assert statuses == [503] * 3
        rest.set()
        await asyncio.gather(*slow)
        await asyncio.gather(*(request(checks) for _ in range(fitting)))
        assert statuses == [503] * 3 + [200] * 2 * fitting

    asyncio.run(run())


def test_a_slow_but_timely_client_is_answered(api: httpx2.Client) -> None:
    with connect(api) as connection:
        for byte in HEAD + BODY:
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_task_that_fails_is_started_again_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0)
    attempts = 0

    async def task() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("out of order")
        if attempts == 3:
            await asyncio.Event().wait()

    async def run() -> None:
        running = asyncio.create_task(keep_running("model_store", task))
        while attempts < 3:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    failures = metrics.BACKGROUND_FAILURES["model_store"]
    before = failures._value.get()
    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert failures._value.get() - before == 2
    assert "out of order" in caplog.text and "has ended" in caplog.text

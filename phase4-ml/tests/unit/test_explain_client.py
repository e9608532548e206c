"""?explain=true: the explainer's answer as it is, or an answer without reasons that says so."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_process import PAYMENT, own_api
from example_model import example_model
from features import FEATURES

REASONS = [{"name": "amount", "value": 500.0, "effect": 0.25}]
NOWHERE = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}


@contextmanager
def explainer(respond: Callable[[dict[str, Any]], tuple[int, bytes]]) -> Iterator[str]:
    """An explainer that answers what the function returns; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def with_model(tmp_path: Path) -> Path:
    """The state of an API that has served model 7."""
    folder = tmp_path / "models/7-a"
    folder.mkdir(parents=True)
    model = example_model(trees=2, depth=3)
    (folder / "model.onnx").write_bytes(model.onnx)
    (folder / "model.json").write_text(json.dumps(model.described))
    return tmp_path


@contextmanager
def api(state: Path, explainer_url: str, **settings: Any) -> Iterator[httpx2.Client]:
    with own_api(state, redis_port=1, postgres_port=1, explainer_url=explainer_url, **NOWHERE, **settings) as client:
        yield client


def explained(client: httpx2.Client) -> dict[str, Any]:
    answer = client.post("/predict?explain=true", json=PAYMENT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_explainer_is_asked_for_what_is_recorded(with_model: Path) -> None:
    asked: list[dict[str, Any]] = []

    def respond(request: dict[str, Any]) -> tuple[int, bytes]:
        asked.append(request)
        return 200, json.dumps({"reasons": REASONS}).encode()

    with explainer(respond) as url, api(with_model, url) as client:
        plain = client.post("/predict", json=PAYMENT).json()
        assert (plain["reasons"], plain["reasons_status"], asked) == ([], "not_requested", [])
        answer = explained(client)
        assert (answer["reasons"], answer["reasons_status"]) == (REASONS, "ok")
        assert answer["fraud_probability"] == plain["fraud_probability"]
        batch = client.post("/predict/batch", json={"transactions": [PAYMENT]}).json()["predictions"]
        assert [each["reasons_status"] for each in batch] == ["not_requested"]
    (request,) = asked
    (recorded,) = [
        row
        for file in (with_model / "predictions").iterdir()
        for row in map(json.loads, file.read_text().splitlines())
        if row["prediction_id"] == answer["prediction_id"]
    ]
    assert request == {name: recorded[name] for name in ("model_version", "fraud_probability", "features")}
    assert list(request["features"]) == list(FEATURES)


def test_without_the_explainer_the_payment_is_answered(with_model: Path) -> None:
    with api(with_model, "http://localhost:1") as client:
        answer = explained(client)
        assert (answer["model_version"], answer["reasons"], answer["reasons_status"]) == ("7", [], "unavailable")
        assert 'fraud_errors_total{part="explainer"} 1.0' in client.get("/metrics").text


def test_an_explainer_that_fails_or_hangs_is_not_waited_for(with_model: Path) -> None:
    good = (200, json.dumps({"reasons": REASONS}).encode())
    responses = [(404, b'{"detail": "unknown"}'), (503, b""), (200, b"not JSON"), (200, b"{}"), (200, b"[]"), good]
    hanging = threading.Event()

    def respond(_: dict[str, Any]) -> tuple[int, bytes]:
        if responses:
            return responses.pop(0)
        hanging.wait(30)
        return good

    with explainer(respond) as url, api(with_model, url, explain_deadline_ms=1000) as client:
        statuses = [explained(client)["reasons_status"] for _ in range(len(responses))]
        assert statuses == ["unavailable"] * 5 + ["ok"]
        try:
            answer = explained(client)
        finally:
            hanging.set()
        assert (answer["reasons"], answer["reasons_status"]) == ([], "unavailable")

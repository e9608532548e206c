"""The explainer: what it answers and stores for a prediction, models by version, and what happens without MLflow."""

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from explainer import __main__ as service
from explainer import store
from explainer.attribution import UnexplainedError
from explainer.endpoint import make_app
from explainer.explain import Prediction, explain
from explainer.registry import KEPT, Models, Unavailable
from fastapi.testclient import TestClient
from features import FEATURES
from sklearn.tree import DecisionTreeClassifier
from training.calibration import CalibratedClassifier, Correction
from training.export import export_onnx, onnx_scores

NOW = datetime(2024, 11, 29, 12, tzinfo=UTC)
RANDOM = np.random.default_rng(3)
PAYMENTS = RANDOM.lognormal(3, 1, (500, len(FEATURES))).astype(np.float32)
# By their amount, which is all that the model looks at.
SMALLEST, LARGEST = int(PAYMENTS[:, 0].argmin()), int(PAYMENTS[:, 0].argmax())


class Mlflow:
    """The parts of MLflow's API that the explainer asks, with a model under every version but 404."""

    def __init__(self) -> None:
        is_fraud = PAYMENTS[:, 0] > np.quantile(PAYMENTS[:, 0], 0.9)
        tree = DecisionTreeClassifier(max_depth=3, random_state=0).fit(PAYMENTS, is_fraud)
        self.onnx = export_onnx(CalibratedClassifier.of(tree, Correction(1.0, -1.0)))
        described = {
            "features": list(FEATURES),
            "typical": dict(zip(FEATURES, map(float, PAYMENTS[SMALLEST]), strict=True)),
        }
        background = io.BytesIO()
        np.save(background, PAYMENTS[:50])
        self.files = {
            "model.onnx": self.onnx,
            "model.json": json.dumps(described).encode(),
            "background.npy": background.getvalue(),
            "reference.json": b"{}",
        }
        self.loaded: list[str] = []

    def answer(self, path: str, query: dict[str, list[str]]) -> bytes | None:
        match path.removeprefix("/api/2.0/"):
            case "mlflow/model-versions/get":
                (version,) = query["version"]
                if version == "404":
                    return None
                self.loaded.append(version)
                return json.dumps({"model_version": {"run_id": f"run-{version}"}}).encode()
            case "mlflow/runs/get":
                return json.dumps({"run": {"info": {"artifact_uri": "mlflow-artifacts:/0/run/artifacts"}}}).encode()
            case "mlflow/artifacts/list":
                return json.dumps({"files": [{"path": f"serving/{name}"} for name in self.files]}).encode()
            case artifact:
                return self.files[artifact.removeprefix("mlflow-artifacts/artifacts/0/run/artifacts/serving/")]


@pytest.fixture
def mlflow() -> Mlflow:
    return Mlflow()


@pytest.fixture
def models(mlflow: Mlflow) -> Iterator[Models]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            body = mlflow.answer(url.path, parse_qs(url.query))
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Models(f"http://localhost:{server.server_port}")
    server.shutdown()
    server.server_close()
    thread.join()


def prediction(mlflow: Mlflow, row: int = 0, version: str = "1") -> Prediction:
    """A prediction as the table has it: read back from JSON."""
    (score,) = onnx_scores(mlflow.onnx, PAYMENTS[row : row + 1])
    features = json.loads(json.dumps(dict(zip(FEATURES, (float(str(value)) for value in PAYMENTS[row]), strict=True))))
    return Prediction(version, round(float(score), 6), features)


def test_what_is_answered_is_what_is_stored(models: Models, mlflow: Mlflow) -> None:
    client = TestClient(make_app(models))
    with_reasons = 0
    for row in range(20):
        asked = prediction(mlflow, row)
        answer = client.post("/explain", json={name: getattr(asked, name) for name in asked.__slots__})
        stored = service.explained(models, store.Waiting("id", NOW, asked))
        assert answer.status_code == 200
        assert json.loads(json.dumps(stored.reasons)) == answer.json()["reasons"]
        assert stored.unexplained is None
        with_reasons += bool(stored.reasons)
    assert with_reasons > 10


def test_rules_need_no_registry() -> None:
    nowhere = Models("http://localhost:1")
    features: dict[str, float | None] = dict.fromkeys(FEATURES, 0.0) | {"amount": 5000.0}
    reasons = explain(nowhere, Prediction("rules-1", 0.1, features))
    assert reasons[0]["name"] == "amount" and reasons[0]["effect"] > 0


def test_without_the_registry_nothing_is_given_up(mlflow: Mlflow) -> None:
    nowhere = Models("http://localhost:1")
    with pytest.raises(Unavailable, match="MLFLOW_TRACKING_URI"):
        service.explained(nowhere, store.Waiting("id", NOW, prediction(mlflow)))
    answer = TestClient(make_app(nowhere)).post(
        "/explain", json={"model_version": "1", "fraud_probability": 0.5, "features": {}}
    )
    assert answer.status_code == 503


def test_a_version_that_is_gone_is_given_up_with_the_reason(models: Models, mlflow: Mlflow) -> None:
    given_up = service.explained(models, store.Waiting("id", NOW, prediction(mlflow, version="404")))
    assert given_up.reasons == [] and given_up.unexplained == "version 404 is not in the registry"
    answer = TestClient(make_app(models)).post(
        "/explain", json={"model_version": "404", "fraud_probability": 0.5, "features": {}}
    )
    assert (answer.status_code, answer.json()) == (404, {"detail": "version 404 is not in the registry"})


def test_broken_files_are_given_up_and_asked_for_once(models: Models, mlflow: Mlflow) -> None:
    mlflow.files["model.onnx"] = b"garbage"
    for _ in range(2):
        with pytest.raises(UnexplainedError, match="version 1: its files can't be used"):
            models.get("1")
    assert mlflow.loaded == ["1"]


def test_a_model_of_an_earlier_release_is_compared_with_its_typical_values(models: Models, mlflow: Mlflow) -> None:
    del mlflow.files["background.npy"]
    assert explain(models, prediction(mlflow, SMALLEST)) == []
    (amount,) = explain(models, prediction(mlflow, LARGEST))
    scores = onnx_scores(mlflow.onnx, PAYMENTS[[SMALLEST, LARGEST]])
    assert amount["name"] == "amount" and amount["effect"] == pytest.approx(scores[1] - scores[0], abs=1e-5)


def test_the_newest_used_models_stay_in_memory(models: Models, mlflow: Mlflow) -> None:
    for version in [*map(str, range(1, KEPT + 1)), "1", str(KEPT + 1), "1", "2"]:
        models.get(version)
    # Version 2 was used the longest ago when the last one came.
    assert mlflow.loaded == [*map(str, range(1, KEPT + 1)), str(KEPT + 1), "2"]


def test_the_unanswered_part_of_a_chunk_waits(monkeypatch: pytest.MonkeyPatch, models: Models, mlflow: Mlflow) -> None:
    """What was explained before the registry went away is stored; the rest is not touched."""
    chunk = [store.Waiting(str(row), NOW, prediction(mlflow, row, version)) for row, version in enumerate("1122")]
    stored: list[str] = []
    monkeypatch.setattr(store, "waiting", lambda _, limit: chunk[:limit])
    monkeypatch.setattr(store, "store", lambda _, done: stored.extend(each.prediction_id for each in done))
    get = models.get

    def away_for_2(version: str) -> Any:
        if version == "2":
            raise Unavailable("away")
        return get(version)

    monkeypatch.setattr(models, "get", away_for_2)
    with pytest.raises(Unavailable):
        service.explain_waiting(None, models, threading.Event())
    assert stored == ["0", "1"]
    monkeypatch.setattr(models, "get", get)
    stopping = threading.Event()
    stopping.set()
    assert service.explain_waiting(None, models, stopping) == len(chunk)
    assert stored == ["0", "1"]


def test_what_is_no_prediction_is_refused(models: Models) -> None:
    assert TestClient(make_app(models)).post("/explain", json={"features": {}}).status_code == 422

"""A forest on made-up payments, published to MLflow as training publishes its own: for the bench and the tests.

Needs scikit-learn, which only the test image has.
"""

import io
import json
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
from features import FEATURES
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from numpy.typing import NDArray
from serving.model_store import INPUT
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier

ROWS = 20_000


@dataclass(frozen=True, slots=True)
class ExampleModel:
    """The forest and its files."""

    forest: RandomForestClassifier
    onnx: bytes
    described: dict[str, Any]
    # Payments that explanations compare with.
    background: NDArray[np.float32]


def made_up_payments(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of all features, and which are fraud: mostly those with large amounts."""
    random = np.random.default_rng(seed)
    rows = random.lognormal(3, 1.5, (ROWS, len(FEATURES))).astype(np.float32)
    suspicion = rows[:, 0] * random.lognormal(0, 0.5, ROWS)
    return rows, (suspicion > np.quantile(suspicion, 0.97)).astype(np.int64)


def example_model(trees: int, depth: int, seed: int = 1) -> ExampleModel:
    """Train a forest of that size."""
    rows, fraud = made_up_payments(seed)
    forest = RandomForestClassifier(trees, max_depth=depth, random_state=seed, n_jobs=-1).fit(rows, fraud)
    forest.n_jobs = 1
    onnx = to_onnx(
        forest,
        initial_types=[(INPUT, FloatTensorType([None, len(FEATURES)]))],
        options={id(forest): {"zipmap": False}},
        target_opset=18,
    )
    described = {
        "features": list(FEATURES),
        "thresholds": {"medium": 0.3, "high": 0.6},
        "typical": dict(zip(FEATURES, np.median(rows, axis=0).tolist(), strict=True)),
        "algorithm": "random_forest",
        "trained_at": "2024-11-29T14:30:00+00:00",
        "run_id": "",
        "base_rate": 0.03,
    }
    return ExampleModel(forest, onnx.SerializeToString(), described, rows[fraud == 0][:100])


def publish(
    tracking_uri: str,
    onnx: bytes,
    described: dict[str, Any],
    background: NDArray[np.float32] | None = None,
    alias: str = PRODUCTION_ALIAS,
) -> str:
    """Register a model's files as a new version and give it an alias: by default the one that serving follows.

    Args:
        background: None leaves the file out, as an earlier release did.

    Returns:
        the version.
    """
    with httpx2.Client(base_url=tracking_uri, timeout=60) as client:

        def post(path: str, **body: Any) -> dict[str, Any]:
            return client.post(f"/api/2.0/mlflow/{path}", json=body).raise_for_status().json()

        run = post("runs/create", experiment_id="0", start_time=0)["run"]["info"]
        artifacts = run["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
        files = {"model.onnx": onnx, "model.json": json.dumps(described | {"run_id": run["run_id"]}).encode()}
        if background is not None:
            saved = io.BytesIO()
            np.save(saved, background)
            files["background.npy"] = saved.getvalue()
        for name, content in files.items():
            url = f"/api/2.0/mlflow-artifacts/artifacts/{artifacts}/serving/{name}"
            client.put(url, content=content).raise_for_status()
        client.post("/api/2.0/mlflow/registered-models/create", json={"name": MODEL_NAME})
        source = f"{run['artifact_uri']}/serving"
        made = post("model-versions/create", name=MODEL_NAME, source=source, run_id=run["run_id"])
        version = str(made["model_version"]["version"])
        post("registered-models/alias", name=MODEL_NAME, alias=alias, version=version)
        return version

"""The cache of models: what a restart finds on the volume, whole or broken."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_model import example_model
from features import FEATURES
from serving.model_store import INPUT, ModelStore, RefusedModelError, load_model
from serving.settings import Settings
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression


@pytest.fixture(scope="module")
def files() -> tuple[bytes, dict[str, Any]]:
    """A tiny forest as the two files that serving takes."""
    model = example_model(trees=2, depth=3)
    return model.onnx, model.described


def write(folder: Path, onnx: bytes, described: dict[str, Any], age: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(onnx)
    (folder / "model.json").write_text(json.dumps(described))
    when = 1_700_000_000 - age
    os.utime(folder, (when, when))
    return folder


def started(state_dir: Path) -> str:
    store = ModelStore(Settings(state_dir=state_dir, mlflow_tracking_uri="http://localhost:1"))
    store.load_cached()
    return store.model.version


def test_without_a_cache_rules_score(tmp_path: Path) -> None:
    assert started(tmp_path) == "rules-1"


def test_the_model_that_served_last_serves_again(tmp_path: Path, files: tuple[bytes, dict[str, Any]]) -> None:
    models = tmp_path / "models"
    write(models / "7-a", *files, age=10)
    write(models / "8-b", *files)
    # After a rollback.
    (models / "current").symlink_to("7-a")
    assert started(tmp_path) == "7"


def test_a_broken_one_is_passed_over(tmp_path: Path, files: tuple[bytes, dict[str, Any]]) -> None:
    models = tmp_path / "models"
    onnx, described = files
    write(models / "6-a", onnx, described, age=20)
    write(models / "7-b", onnx, described, age=10)
    write(models / "8-c", onnx[: len(onnx) // 2], described)
    (models / "current").symlink_to("8-c")
    assert started(tmp_path) == "7"


def test_thresholds_are_those_of_the_model_file(tmp_path: Path, files: tuple[bytes, dict[str, Any]]) -> None:
    onnx, described = files
    model = load_model(write(tmp_path / "1-a", onnx, described | {"thresholds": {"medium": 0.1, "high": 0.7}}), "1")
    assert (model.medium, model.high) == (0.1, 0.7)


def test_a_model_takes_its_features_by_name(tmp_path: Path) -> None:
    """One that was trained on some of the features, in an order of its own; the others have no effect."""
    names = [FEATURES[3], FEATURES[0]]
    random = np.random.default_rng(1)
    matrix = random.normal(0, 1, (500, len(FEATURES))).astype(np.float32)
    own = matrix[:, [3, 0]]
    classifier = LogisticRegression().fit(own, own[:, 0] > own[:, 1] + random.normal(0, 1, len(own)))
    onnx = to_onnx(classifier, own[:1], options={"zipmap": False}, target_opset=18)
    onnx.graph.input[0].name = INPUT
    onnx.graph.node[0].input[0] = INPUT
    described = {"features": names, "thresholds": {"medium": 0.3, "high": 0.6}, "typical": {names[0]: 0.5, names[1]: 2}}
    model = load_model(write(tmp_path / "1-a", onnx.SerializeToString(), described), "1")
    expected = classifier.predict_proba(own)[:, 1]
    assert model.probabilities(matrix) == pytest.approx(expected, abs=1e-5)
    assert (model.typical[3], model.typical[0], model.typical[1]) == (0.5, 2.0, 0.0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": [*FEATURES[:-1], "shoe_size"]}, "shoe_size"),
        ({"features": list(FEATURES[1:])}, "can't be used"),
        ({"thresholds": {"medium": 0.6, "high": 0.3}}, "thresholds"),
        ({"typical": {}}, "can't be used"),
    ],
)
def test_a_model_that_can_not_serve_is_refused(
    tmp_path: Path, files: tuple[bytes, dict[str, Any]], change: dict[str, Any], why: str
) -> None:
    onnx, described = files
    with pytest.raises(RefusedModelError, match=why):
        load_model(write(tmp_path / "1-a", onnx, described | change), "1")

"""The cache of models: what a restart finds on the volume, whole or broken."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import FEATURES, MerchantFeatures, Payment, UserFeatures
from serving.model_store import ModelStore, RefusedModelError, load_model
from serving.rules_1 import Rules
from serving.settings import Settings
from stack import AS_OF


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


def test_the_model_that_served_last_serves_again(tmp_path: Path, example_files: tuple[bytes, dict]) -> None:
    models = tmp_path / "models"
    write(models / "7-a", *example_files, age=10)
    write(models / "8-b", *example_files)
    # After a roll back.
    (models / "current").symlink_to("7-a")
    assert started(tmp_path) == "7"


def test_a_broken_one_is_passed_over(tmp_path: Path, example_files: tuple[bytes, dict]) -> None:
    models = tmp_path / "models"
    onnx, described = example_files
    write(models / "6-a", onnx, described, age=20)
    write(models / "7-b", onnx, described, age=10)
    write(models / "8-c", onnx[: len(onnx) // 2], described)
    (models / "current").symlink_to("8-c")
    assert started(tmp_path) == "7"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"features": list(reversed(FEATURES))}, "their order differs"),
        ({"features": [*FEATURES, "shoe_size"]}, "shoe_size"),
        ({"features": list(FEATURES[1:])}, "amount"),
        ({"thresholds": {"medium": 0.6, "high": 0.3}}, "thresholds"),
        ({"typical": {}}, "can't be used"),
    ],
)
def test_what_can_not_serve_is_refused(
    tmp_path: Path, example_files: tuple[bytes, dict], change: dict[str, Any], why: str
) -> None:
    onnx, described = example_files
    with pytest.raises(RefusedModelError, match=why):
        load_model(write(tmp_path / "1-a", onnx, described | change), "1")


def test_rules_rise_with_every_sign() -> None:
    quiet = UserFeatures(transactions_30d=50, amount_mean_30d=40.0, amount_stddev_30d=20.0, transactions_1d=1)
    noon = AS_OF.replace(hour=12)
    night = AS_OF.replace(hour=3)
    risky = MerchantFeatures(merchant_category_risk=2, merchant_fraud_rate_30d=0.05)
    rows = [
        quiet.to_array(Payment(40.0, False, noon), MerchantFeatures()),
        quiet.to_array(Payment(40.0, False, night), MerchantFeatures()),
        quiet.to_array(Payment(40.0, True, night), MerchantFeatures()),
        quiet.to_array(Payment(250.0, True, night), MerchantFeatures()),
        quiet.to_array(Payment(5000.0, True, night), MerchantFeatures()),
        quiet.to_array(Payment(5000.0, True, night), risky),
    ]
    scores = Rules().probabilities(np.stack(rows))
    assert scores[0] == pytest.approx(0.01)
    assert scores == sorted(scores) and len(set(scores)) == len(scores) and scores[-1] < 1

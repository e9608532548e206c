"""Staging in shadow: which payments it scores, and which version is in Staging."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from example_model import example_model
from features import FEATURES
from fraud_common.models import PRODUCTION_ALIAS, STAGING_ALIAS
from serving.model_store import INPUT, Model, ModelStore, RefusedModelError, load_model
from shadow.__main__ import Settings, Staging
from shadow.scoring import score
from shadow.store import Payment
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

NOW = datetime(2024, 11, 29, tzinfo=UTC)


def payment(position: int, features: dict[str, Any]) -> Payment:
    return Payment(position, f"p{position}", f"t{position}", NOW, json.dumps(features))


def saved(folder: Path, onnx: bytes, described: dict[str, Any], version: str = "5") -> Model:
    (folder / "model.onnx").write_bytes(onnx)
    (folder / "model.json").write_text(json.dumps(described))
    return load_model(folder, version)


def test_a_payment_has_the_score_of_its_stored_features(tmp_path: Path) -> None:
    example = example_model(trees=5, depth=4)
    model = saved(tmp_path, example.onnx, example.described)
    rows = np.random.default_rng(3).lognormal(3, 1.5, (50, len(FEATURES))).astype(np.float32)
    # As the API stores them: the shortest decimals that are these numbers.
    payments = [
        payment(number, {name: float(str(value)) for name, value in zip(FEATURES, row, strict=True)})
        for number, row in enumerate(rows)
    ]
    scored = score(model, payments)
    expected = example.forest.predict_proba(rows)[:, 1]
    assert [each.fraud_probability for each in scored.scores] == pytest.approx(expected, abs=1e-5)
    tiers = ["high" if each >= 0.6 else "medium" if each >= 0.3 else "low" for each in expected]
    assert [each.risk_tier for each in scored.scores] == tiers
    assert [each.payment for each in scored.scores] == payments
    assert scored.left_out == {"feature": 0, "score": 0}


@pytest.fixture
def of_two_features(tmp_path: Path) -> Model:
    """A model that takes only two of all features."""
    names = [FEATURES[3], FEATURES[0]]
    matrix = np.random.default_rng(1).normal(0, 1, (500, 2)).astype(np.float32)
    classifier = LogisticRegression().fit(matrix, matrix[:, 0] > matrix[:, 1])
    onnx = to_onnx(classifier, matrix[:1], options={"zipmap": False}, target_opset=18)
    onnx.graph.input[0].name = INPUT
    onnx.graph.node[0].input[0] = INPUT
    described = {"features": names, "thresholds": {"medium": 0.3, "high": 0.6}, "typical": dict.fromkeys(names, 0)}
    return saved(tmp_path, onnx.SerializeToString(), described)


def test_a_payment_without_a_feature_that_the_model_needs_is_left_out(of_two_features: Model) -> None:
    """One that the model does not take may be missing; one that is no number gives no score."""
    needed = {FEATURES[3]: 2.0, FEATURES[0]: -2.0}
    scored = score(
        of_two_features,
        [
            payment(1, needed),
            payment(2, {name: 1.0 for name in FEATURES if name != FEATURES[3]}),
            payment(3, needed | {FEATURES[3]: None}),
            payment(4, needed | {"a feature of another release": 7}),
        ],
    )
    assert [each.payment.position for each in scored.scores] == [1, 4]
    assert scored.left_out == {"feature": 1, "score": 1}


def test_a_chunk_without_any_payment_to_score(of_two_features: Model) -> None:
    assert score(of_two_features, [payment(1, {})]).scores == []


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    with asyncio.Runner() as runner:
        settings = Settings(state_dir=tmp_path, mlflow_tracking_uri="http://localhost:1", model_poll_seconds=1e-6)
        staging = Staging(settings, runner)
        yield staging
        staging.close()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[str, str] | Exception]:
    """What MLflow answers: alias -> version and run. Models whose version is 13 can't be used."""
    answers: dict[str, tuple[str, str] | Exception] = {}
    example = example_model(trees=2, depth=2)

    async def with_alias(_: ModelStore, alias: str) -> tuple[str, str] | None:
        answer = answers.get(alias)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def load(_: ModelStore, version: str, run_id: str) -> Model:
        if version == "13":
            raise RefusedModelError("it needs shoe_size")
        return saved(tmp_path, example.onnx, example.described, version)

    monkeypatch.setattr(ModelStore, "with_alias", with_alias)
    monkeypatch.setattr(ModelStore, "load", load)
    return answers


def test_the_version_in_staging_scores_until_it_serves(
    staging: Staging, registry: dict[str, tuple[str, str] | Exception]
) -> None:
    def version() -> str | None:
        return staging.model.version if staging.look() and staging.model else None

    assert version() is None
    registry[STAGING_ALIAS] = ("1", "a")
    assert version() == "1"
    registry[PRODUCTION_ALIAS] = ("1", "a")
    assert version() is None
    registry[STAGING_ALIAS] = ("2", "b")
    assert version() == "2"
    registry[STAGING_ALIAS] = ("3", "c")
    assert version() == "3"
    del registry[STAGING_ALIAS]
    assert version() is None


def test_while_the_registry_does_not_answer_the_version_stays(
    staging: Staging, registry: dict[str, tuple[str, str] | Exception]
) -> None:
    registry[STAGING_ALIAS] = ("1", "a")
    staging.look()
    registry[STAGING_ALIAS] = httpx2.ConnectError("refused")
    assert not staging.look()
    assert staging.model is not None and staging.model.version == "1"


def test_a_version_that_can_not_be_used_scores_nothing(
    staging: Staging, registry: dict[str, tuple[str, str] | Exception]
) -> None:
    registry[STAGING_ALIAS] = ("12", "a")
    staging.look()
    registry[STAGING_ALIAS] = ("13", "b")
    for _ in range(2):
        staging.look()
        assert staging.model is None
    registry[STAGING_ALIAS] = ("14", "c")
    assert staging.look()
    assert staging.model is not None and staging.model.version == "14"

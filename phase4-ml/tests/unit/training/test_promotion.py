"""The rules of promotion, and settings and services that are wrong."""

from collections.abc import Callable
from typing import Any

import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from training import registry
from training.gold import load_dataset
from training.settings import Settings


@pytest.mark.parametrize(
    ("auc", "average_precision", "current", "stage", "why"),
    [
        (0.95, 0.60, None, "Production", "nothing is in Production"),
        (0.95, 0.60, 0.59, "Production", "0.6000 is better than Production's 0.5900 on the same holdout"),
        (0.95, 0.60, 0.60, "Staging", "no better than Production's 0.6000"),
        (0.95, 0.60, 0.61, "Staging", "no better than Production's 0.6100"),
        (0.90, 0.60, None, "Production", "reaches the minimum"),
        (0.8999, 0.90, 0.10, "None", "below the minimum of 0.90"),
        (0.8999, 0.90, None, "None", "below the minimum of 0.90"),
        (0.95, 0.60, "version 1 was trained on other features", "Production", "other features"),
    ],
)
def test_promotion(auc: float, average_precision: float, current: float | str | None, stage: str, why: str) -> None:
    decision = registry.decide(Settings(), auc, average_precision, current)
    assert decision.stage == stage
    assert why in decision.reason


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_MODEL", "oracle")
    with pytest.raises(UserError, match=r"TRAINING_MODEL=oracle: .*random_forest"):
        load_settings(Settings)


@pytest.mark.parametrize("call", [registry.connect, load_dataset], ids=["MLflow", "Trino"])
def test_a_service_that_is_down_is_named(call: Callable[[Settings], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"localhost:1[^0-9]"):
        call(Settings(mlflow_tracking_uri="http://localhost:1", trino_host="localhost", trino_port=1))

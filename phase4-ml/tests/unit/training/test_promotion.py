"""The rules of promotion, and settings and services that are wrong."""

from collections.abc import Callable
from typing import Any

import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from training import registry
from training.compare import Comparison, Interval, Skill
from training.gold import load_dataset
from training.promotion import judge
from training.settings import Settings


def measured(
    auc: float, average_precision: float, gain_low: float = 0.01, *, served: Skill | None = None, **other: Any
) -> Comparison:
    """A model beside rules-1, which has an AUC of 0.80 and an average precision of 0.10, with 200 frauds."""
    served = served or Skill(0.80, 0.10)
    gain = average_precision - served.average_precision
    values: dict[str, Any] = {
        "auc_gain": Interval(auc - served.auc - 0.01, auc - served.auc + 0.01),
        "average_precision_gain": Interval(gain_low, 2 * gain - gain_low),
        "frauds": 200,
        "served_by": "rules-1",
        "note": "nothing is in Production",
        **other,
    }
    return Comparison(new=Skill(auc, average_precision), served=served, **values)


def beside_production(auc: float, average_precision: float, production: float) -> Comparison:
    served = Skill(0.93, production)
    return measured(auc, average_precision, served=served, served_by="Production", note="")


@pytest.mark.parametrize(
    ("comparison", "stage", "why"),
    [
        (beside_production(0.95, 0.60, 0.59), "Production", "0.6000 is better than Production's 0.5900 on the same"),
        (beside_production(0.95, 0.60, 0.60), "Staging", "0.6000 is no better than Production's 0.6000"),
        (beside_production(0.95, 0.60, 0.61), "Staging", "0.6000 is no better than Production's 0.6100"),
        (beside_production(0.95, 0.60004, 0.60), "Staging", "no better than Production's 0.6000"),
        (measured(0.95, 0.60), "Production", "AUC 0.9500 reaches TRAINING_MINIMUM_AUC (0.9)"),
        (measured(0.90, 0.60), "Production", "nothing is in Production"),
        (measured(0.89996, 0.60), "Production", "AUC 0.9000 reaches"),
        (
            measured(0.95, 0.11, gain_low=0.001),
            "Production",
            "by more than chance (95 % interval of the difference 0.0",
        ),
        # A difference that may be chance is none, whatever serves.
        (
            measured(0.95, 0.11, gain_low=-0.01),
            "Staging",
            "but not by more than chance (95 % interval of the difference",
        ),
        (measured(0.95, 0.11, gain_low=0.0), "Staging", "0.1100 is better than rules-1's 0.1000 on the same holdout"),
        (measured(0.95, 0.09), "Staging", "0.0900 is no better than rules-1's 0.1000"),
    ],
)
def test_a_model_that_reaches_the_minimum(comparison: Comparison, stage: str, why: str) -> None:
    decision = judge(Settings(), comparison, 100)
    assert decision.stage == stage
    assert why in decision.reason


@pytest.mark.parametrize(
    ("comparison", "stage", "why"),
    [
        (measured(0.899, 0.60, gain_low=0.4), "Production", "rules-1's 0.1000 on the same holdout (nothing is in Prod"),
        (measured(0.899, 0.60, gain_low=0.4), "Production", "(95 % interval of the difference 0.4000 to 0.6000, 200 f"),
        # Its AUC is lower, but that may be chance.
        (measured(0.795, 0.60), "Production", "by more than chance"),
        (measured(0.61, 0.60, served=Skill(0.55, 0.01)), "Production", "by more than chance"),
        (beside_production(0.895, 0.60, 0.20), "None", "Production's AUC of 0.9300 is higher by more than chance"),
        (measured(0.70, 0.60), "None", "rules-1's AUC of 0.8000 is higher by more than chance"),
        (measured(0.899, 0.12, gain_low=-0.01), "None", "not by more than chance (95 % interval of the difference -0."),
        (measured(0.899, 0.12, gain_low=0.0), "None", "not by more than chance"),
        (measured(0.899, 0.10), "None", "average precision 0.1000 is no better than rules-1's 0.1000"),
        (measured(0.899, 0.05), "None", "average precision 0.0500 is no better than rules-1's 0.1000"),
        (measured(0.899, 0.60, frauds=24), "None", "the holdout has only 24 frauds and 25 are needed"),
        (measured(0.59, 0.60, served=Skill(0.5, 0.01)), "None", "an AUC below 0.60 does not serve for that alone"),
    ],
)
def test_a_model_below_the_minimum_serves_only_if_it_is_clearly_better_than_what_serves(
    comparison: Comparison, stage: str, why: str
) -> None:
    """D15: a model that beats what serves now is worth more than a fixed bar."""
    decision = judge(Settings(), comparison, 100)
    assert decision.stage == stage
    assert f"AUC {comparison.new.auc:.4f} is below TRAINING_MINIMUM_AUC (0.9)" in decision.reason
    assert why in decision.reason


@pytest.mark.parametrize(
    ("comparison", "remedy"),
    [
        (measured(0.8999, 0.12, frauds=24), "TRAINING_MINIMUM_AUC=0.89 make ml-train"),
        (measured(0.58, 0.60), "TRAINING_MINIMUM_AUC=0.58 make ml-train"),
        (measured(0.899, 0.60, frauds=3), "TRAINING_MINIMUM_AUC=0.89 make ml-train"),
        # A lower minimum would change nothing: what serves now is better, or may be, or the setting can't be so low.
        (measured(0.8999, 0.12, gain_low=-0.01), "TRAINING_DAYS=90 make ml-train"),
        (measured(0.899, 0.05), "TRAINING_DAYS=90 make ml-train"),
        (beside_production(0.95, 0.60, 0.61), "TRAINING_DAYS=90 make ml-train"),
        (measured(0.45, 0.60), "TRAINING_DAYS=90 make ml-train"),
    ],
)
def test_a_refusal_ends_with_the_setting_that_changes_it(comparison: Comparison, remedy: str) -> None:
    """D15: the message names the setting; the command that it names leads to another decision."""
    decision = judge(Settings(), comparison, 100)
    assert remedy in decision.reason
    assert "\n" not in decision.reason and ".env" in decision.reason
    name, _, value = remedy.split()[0].partition("=")
    if name == "TRAINING_MINIMUM_AUC":
        assert judge(Settings(training_minimum_auc=float(value)), comparison, 100).stage == "Production"


@pytest.mark.parametrize(
    ("history_days", "step"),
    [
        (200, "TRAINING_DAYS=90 make"),
        (60, "TRAINING_DAYS=60 make"),
        (45, "More labelled payments"),
        (16, "More labelled payments"),
    ],
)
def test_only_history_that_is_there_is_proposed(history_days: int, step: str) -> None:
    assert step in judge(Settings(), measured(0.899, 0.05), history_days).reason


def test_the_best_of_all_models_is_proposed_unless_it_was_that() -> None:
    one, best = Settings(training_model="random_forest"), Settings(training_model="auto")
    for history_days in (30, 100):
        assert "TRAINING_MODEL=auto make ml-train" in judge(one, measured(0.899, 0.05), history_days).reason
        assert "TRAINING_MODEL" not in judge(best, measured(0.899, 0.05), history_days).reason


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_MODEL", "oracle")
    with pytest.raises(UserError, match=r"TRAINING_MODEL=oracle: .*random_forest"):
        load_settings(Settings)


@pytest.mark.parametrize("call", [registry.connect, load_dataset], ids=["MLflow", "Trino"])
def test_a_service_that_is_down_is_named(call: Callable[[Settings], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"localhost:1[^0-9]"):
        call(Settings(mlflow_tracking_uri="http://localhost:1", trino_host="localhost", trino_port=1))

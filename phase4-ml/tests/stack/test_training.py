"""Training with the real Trino and MLflow: what is read, what a run leaves, promotion and rollback."""

import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from features import FEATURES, TRAINING_COLUMNS
from fraud_common.errors import UserError
from mlflow.exceptions import MlflowException
from training import estimators, prune, registry, train
from training.estimators import scores
from training.examples import Examples, split_by_time
from training.export import INPUT, OUTPUT, onnx_scores
from training.gold import TABLE, Dataset, load_dataset
from training.selection import SEARCH
from training.settings import Settings
from training_world import DAYS, MODELS, SPLIT, START, world
from trino_tools import TRINO_HOST, query

# Read now: MLflow writes the address that it uses into the environment.
MLFLOW_URL = os.environ.get("MLFLOW_TRACKING_URI", "")
ROWS = 20_000


@pytest.fixture(scope="module")
def examples() -> Examples:
    return world(ROWS)


@pytest.fixture(scope="module")
def parts(examples: Examples) -> tuple[Examples, Examples]:
    """What is learned, and the holdout."""
    return split_by_time(examples.where(np.arange(len(examples))), SPLIT)


# ---------- Trino


@pytest.fixture
def gold() -> Iterator[Settings]:
    """A mart in a schema of its own: payments of 29 days, two an hour; every tenth is fraud."""
    schema = f"training_test_{uuid.uuid4().hex[:8]}"
    known = {
        "transaction_id": "'t' || cast(n as varchar)",
        "user_id": "'u' || cast(n % 50 as varchar)",
        "event_time": f"{_timestamp(START)} + n * interval '30' minute",
        "event_date": f"date({_timestamp(START)} + n * interval '30' minute)",
        "is_fraud": "n % 10 = 0",
        "fraud_type": "if(n % 10 = 0, 'burst')",
        "label_reported_at": f"if(n % 10 = 0, {_timestamp(START)} + n * interval '30' minute + interval '2' day)",
        "device_type": "if(n % 3 = 0, 'atm', 'web')",
        "amount": "cast(n as double)",
        # Two of the first day, and two of the holdout.
        "late_history": "n in (1, 5, 1301, 1303)",
    }
    columns = known | {name: "cast(n % 7 as double)" for name in TRAINING_COLUMNS if name not in known}
    selected = ", ".join(f"{expression} as {name}" for name, expression in columns.items())
    query(f"create schema delta.{schema} with (location = 's3://lakehouse/{schema}')")
    query(
        f"create table delta.{schema}.{TABLE} with (partitioned_by = array['event_date']) as"
        f" select {selected} from unnest(sequence(0, {2 * 24 * (DAYS + 1) - 1})) as numbers (n)"
    )
    yield Settings(trino_host=TRINO_HOST, gold_schema=schema, training_days=28, training_legitimate_per_fraud=3)
    query(f"drop table delta.{schema}.{TABLE}")
    query(f"drop schema delta.{schema}")


def _timestamp(moment: datetime) -> str:
    return f"timestamp '{moment:%Y-%m-%d %H:%M:%S}.000 UTC'"


def test_all_frauds_the_holdout_and_a_sample_are_read(gold: Settings) -> None:
    dataset = load_dataset(gold)
    split, examples = dataset.split, dataset.examples
    assert split.end - split.start == timedelta(days=28) and dataset.history_days == 28
    assert "is kept, since less than half of the training period would remain" in dataset.warm_up
    numbers = examples.amount.astype(int)
    # The payment 28 days before the newest one; the sample need not have it.
    first = 2 * 24 - 1
    assert numbers.min() >= first
    assert np.array_equal(examples.is_fraud, numbers % 10 == 0)
    assert np.array_equal(examples.matrix[:, FEATURES.index("is_atm")], numbers % 3 == 0)
    assert set(examples.fraud_type[examples.is_fraud]) == {"burst"} and set(examples.fraud_type) == {"", "burst"}
    assert np.isnat(examples.known_at[~examples.is_fraud]).all()

    learned, holdout = split_by_time(examples, split)
    # All of the last week, with both ends, but for those whose history came late.
    assert len(holdout) == 7 * 48 + 1 - 2 and (holdout.weight == 1).all()
    assert not {1301, 1303} & set(numbers)
    assert dataset.late_history.startswith("4 of 1,392 matured payments (0.29%) are left out")
    assert learned.is_fraud.sum() == sum(number % 10 == 0 for number in range(first, first + 14 * 48))
    # About three legitimate payments for each fraud, which represent all of them.
    legitimate = ~learned.is_fraud
    assert 2 < legitimate.sum() / learned.is_fraud.sum() < 4
    assert learned.weight[legitimate].sum() == pytest.approx(14 * 48 * 0.9, rel=0.25)

    # The examples are those of one version of the table.
    query(f"delete from delta.{gold.gold_schema}.{TABLE} where amount % 2 = 1")
    later = load_dataset(gold)
    assert later.version > dataset.version and len(later.examples) < len(examples)
    assert later.late_history == "no payment arrived after a later one of its user"


def test_a_missing_table_is_named(gold: Settings) -> None:
    with pytest.raises(UserError, match="make dbt-run"):
        load_dataset(gold.model_copy(update={"gold_schema": "nowhere"}))


def test_an_empty_table_is_named(gold: Settings) -> None:
    """D15: and why it is empty, whatever is in Silver."""
    query(f"delete from delta.{gold.gold_schema}.{TABLE}")
    with pytest.raises(UserError, match=r"no payment has matured yet .* is empty\): Silver has .*make ml-train"):
        load_dataset(gold)


def test_too_few_frauds_are_counted(gold: Settings) -> None:
    """D15: what is there, what is needed, and when it will be enough."""
    found = r"too few frauds to learn from: 67 from 2026-01-01 to 2026-01-15 and 34 in the holdout from 2026-01-22 to"
    with pytest.raises(UserError, match=rf"{found} .*; 100 and 50 are needed .* there are 28: .* make ml-train"):
        load_dataset(gold.model_copy(update={"training_minimum_frauds": 100}))


def test_labels_that_were_reported_too_late_are_counted(gold: Settings) -> None:
    """D15: a file whose labels were all reported when it was sent has nothing to learn from."""
    query(
        f"update delta.{gold.gold_schema}.{TABLE} set label_reported_at = {_timestamp(START + timedelta(days=60))}"
        " where is_fraud"
    )
    with pytest.raises(UserError, match=r"too few frauds whose label was known in time: 0 of 67 .*label_delay_days"):
        load_dataset(gold)


def test_the_holdout_is_as_long_as_it_takes_for_enough_frauds(gold: Settings) -> None:
    """D15: a week has 34 frauds; the 35th newest happened 170.5 hours before the newest payment."""
    dataset = load_dataset(gold.model_copy(update={"training_minimum_frauds": 70, "training_days": 29}))
    assert dataset.split.end - dataset.split.holdout_start == timedelta(hours=170.5)
    _, holdout = split_by_time(dataset.examples, dataset.split)
    assert holdout.is_fraud.sum() == 35


# ---------- MLflow


@dataclasses.dataclass
class Registry:
    """A registered model of the test's own in the real MLflow, and training runs on generated payments."""

    client: mlflow.MlflowClient
    name: str
    settings: Settings
    examples: Examples

    def train(self, model: str, **settings: Any) -> Any:
        """One whole run; returns the version that it made."""
        # Each run relabels its examples.
        examples = self.examples.where(np.arange(len(self.examples)))
        dataset = Dataset("generated", 7, SPLIT, DAYS, examples, "no warm-up", "nothing late")
        train.train(self.settings.model_copy(update={"training_model": model, **settings}), self.client, dataset)
        return registry.versions(self.client)[0]

    def stages(self) -> dict[str, str]:
        return {str(v.version): v.current_stage for v in registry.versions(self.client)}

    def alias(self, alias: str) -> str:
        return str(self.client.get_model_version_by_alias(self.name, alias).version)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, examples: Examples) -> Iterator[Registry]:
    settings = Settings(mlflow_tracking_uri=MLFLOW_URL, training_jobs=1, training_minimum_auc=0.6)
    name = f"test-{uuid.uuid4().hex[:8]}"
    for module in (registry, train, prune):
        monkeypatch.setattr(module, "MODEL_NAME", name)
    client = registry.connect(settings)
    yield Registry(client, name, settings, examples)
    for version in registry.versions(client):
        client.delete_model_version(name, version.version)
    client.delete_registered_model(name)
    client.delete_experiment(client.get_experiment_by_name(name).experiment_id)


def test_a_run_leaves_what_serving_takes(own: Registry, parts: tuple[Examples, Examples], tmp_path: Path) -> None:
    version = own.train("random_forest")
    folder = Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, dst_path=str(tmp_path)))
    described = json.loads((folder / "serving" / "model.json").read_text())
    assert described["features"] == list(FEATURES)
    assert described["thresholds"].keys() == {"medium", "high"}
    assert described["typical"].keys() == set(FEATURES)
    assert (described["algorithm"], described["run_id"]) == ("random_forest", version.run_id)
    assert datetime.fromisoformat(described["trained_at"]).tzinfo
    seen = json.loads((folder / "serving" / "reference.json").read_text())
    assert seen["features"].keys() == set(FEATURES)
    assert {p.name for p in (folder / "plots").iterdir()} == {
        "precision_recall.png",
        "calibration.png",
        "score_by_scenario.png",
        "importance.png",
    }

    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "serving" / "model.onnx")
    (taken,), (probabilities,) = session.get_inputs(), [o for o in session.get_outputs() if o.name == OUTPUT]
    assert (taken.name, taken.type, taken.shape[1]) == (INPUT, "tensor(float)", len(FEATURES))
    assert (probabilities.type, probabilities.shape[1]) == ("tensor(float)", 2)

    learned, holdout = parts
    loaded = mlflow.sklearn.load_model(f"models:/{own.name}@production")
    onnx = (folder / "serving" / "model.onnx").read_bytes()
    assert np.abs(scores(loaded, holdout) - onnx_scores(onnx, holdout.matrix)).max() < 1e-5

    logged = mlflow.models.get_model_info(f"models:/{own.name}/{version.version}")
    assert logged.signature.inputs.inputs[0].shape == (-1, len(FEATURES))
    assert logged.saved_input_example_info
    run = own.client.get_run(version.run_id)
    assert run.data.params["data_version"] == "7"
    assert run.data.params["frauds"] == str(int(learned.is_fraud.sum()))
    assert {"auc_roc", "average_precision", "card_precision_at_100", "brier", "spree.recall_high"} <= set(
        run.data.metrics
    )
    # F3: the mean score of the holdout is its rate of fraud.
    assert run.data.metrics["mean_score_to_base_rate"] == pytest.approx(1, abs=0.2)
    assert run.data.metrics["brier"] < run.data.metrics["brier_of_base_rate"]


def test_a_model_that_was_chosen_leaves_the_evidence(own: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(estimators.TREES, "n_estimators", 10)
    monkeypatch.setitem(estimators.BOOSTING, "max_iter", 10)
    version = own.train("auto")
    described = json.loads(mlflow.artifacts.load_text(f"runs:/{version.run_id}/serving/model.json"))
    run = own.client.get_run(version.run_id)
    assert run.data.params["training_model"] == "auto"
    assert described["algorithm"] == run.data.params["algorithm"]
    assert run.data.tags["choice"].startswith(described["algorithm"])
    trials = pd.DataFrame(**json.loads(mlflow.artifacts.load_text(f"runs:/{version.run_id}/trials.json")))
    assert set(trials["model"]) == {kind[0].name for kind in SEARCH}
    assert set(trials.loc[trials["chosen"], "model"]) == {described["algorithm"]}
    assert trials["average_precision"].between(0, 1).all() and (trials["examples"] > 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_registered_and_loaded(own: Registry, parts: tuple[Examples, Examples], name: str) -> None:
    own.train(name)
    loaded = mlflow.sklearn.load_model(f"models:/{own.name}@production")
    assert len(scores(loaded, parts[1].where(np.arange(len(parts[1])) < 10))) == 10


def test_versions_are_promoted_and_rolled_back(own: Registry) -> None:
    # The first that reaches the minimum serves.
    own.train("decision_tree")
    assert own.stages() == {"1": "Production"}
    assert own.alias("production") == own.alias("staging") == "1"

    # A better one replaces it.
    better = own.train("random_forest")
    assert own.stages() == {"1": "Archived", "2": "Production"}
    assert own.alias("production") == "2"
    compared = own.client.get_run(better.run_id).data
    assert compared.metrics["production_average_precision"] < compared.metrics["average_precision"]
    assert "better than Production's" in compared.tags["decision"] and "more than chance" in compared.tags["decision"]

    # A worse one waits, and says why; so does an equal one.
    for version, model in (("3", "logistic_regression"), ("4", "random_forest")):
        refused = own.train(model)
        assert own.stages()[version] == "Staging" and own.alias("staging") == version
        assert "no better than Production's" in refused.tags["decision"]
    assert own.alias("production") == "2"

    # One below the minimum, and worse than what serves, has no stage.
    refused = own.train("decision_tree", training_minimum_auc=1.0)
    assert own.stages()["5"] == "None"
    assert "TRAINING_MODEL=auto make ml-train" in refused.tags["decision"]

    # Roll back once; there is nothing before the first.
    assert registry.rollback(own.client) == ("2", "1")
    stages = own.stages()
    assert (stages["1"], stages["2"], own.alias("production")) == ("Production", "Archived", "1")
    with pytest.raises(UserError, match="version 1 is the first"):
        registry.rollback(own.client)

    # A rollback skips versions that were rolled back before. (Version 1, a tree, serves now.)
    own.train("random_forest", training_seed=1)
    assert own.alias("production") == "6"
    assert registry.rollback(own.client) == ("6", "1")


def test_old_versions_go_with_their_files(own: Registry) -> None:
    """What serves stays whatever its age, and so does what a rollback may need."""
    first, second, third = (own.train(model) for model in ("decision_tree", "random_forest", "logistic_regression"))
    below = own.train("decision_tree", training_minimum_auc=1.0)
    assert own.stages() == {"1": "Archived", "2": "Production", "3": "Staging", "4": "None"}
    prune.prune(own.client, 180, datetime.now(UTC))
    assert len(own.stages()) == 4
    prune.prune(own.client, 180, datetime.now(UTC) + timedelta(days=181))
    assert own.stages() == {"1": "Archived", "2": "Production", "3": "Staging"}
    assert own.client.get_run(below.run_id).info.lifecycle_stage == "deleted"
    assert not own.client.list_artifacts(below.run_id)
    for version in (first, second, third):
        assert {file.path for file in own.client.list_artifacts(version.run_id)} >= {"serving"}
        mlflow.sklearn.load_model(f"models:/{own.name}/{version.version}")


def test_the_first_model_serves_if_it_is_clearly_better_than_rules_1(own: Registry) -> None:
    """D15: whatever TRAINING_MINIMUM_AUC says."""
    version = own.train("random_forest", training_minimum_auc=1.0)
    assert own.stages() == {"1": "Production"} and own.alias("production") == "1"
    reason = version.tags["decision"]
    assert "is below TRAINING_MINIMUM_AUC (1), but" in reason and "(nothing is in Production)" in reason
    metrics = own.client.get_run(version.run_id).data.metrics
    assert f"rules-1's {metrics['rules_1_average_precision']:.4f}" in reason
    assert 0 < metrics["average_precision_gain_low"] < metrics["average_precision_gain"]
    assert metrics["average_precision_gain"] == pytest.approx(
        metrics["average_precision"] - metrics["rules_1_average_precision"]
    )
    assert "rules_1_auc_roc" in metrics and "production_auc_roc" not in metrics


def test_a_model_that_needs_other_features_does_not_score(
    own: Registry, parts: tuple[Examples, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F4: the API refuses it, so rules-1 serves, and a new model is compared with that."""
    own.train("decision_tree")
    assert registry.serving_now(own.client, parts[1]).name == "Production"
    monkeypatch.setattr(registry, "FEATURES", FEATURES[1:])
    serving = registry.serving_now(own.client, parts[1])
    assert serving.name == "rules-1"
    assert f"version 1 in Production needs features that are gone ({FEATURES[0]})" in serving.note
    assert np.array_equal(serving.scores, registry.rules_scores(parts[1]))


def test_without_a_model_there_is_no_rollback(own: Registry) -> None:
    own.client.create_registered_model(own.name)
    own.client.create_experiment(own.name)
    with pytest.raises(UserError, match="nothing is in Production"):
        registry.rollback(own.client)
    assert registry.in_production(own.client) is None


def test_a_registry_that_fails_is_not_an_empty_one(own: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a new model would go to Production without a comparison."""
    own.train("decision_tree")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = mlflow.MlflowClient("http://localhost:1")
    with pytest.raises((MlflowException, UserError)):
        registry.in_production(gone)

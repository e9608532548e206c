"""Training: no label of the future, samples that stand for the population, promotion and the way back by the rules."""

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from features import FEATURES
from mlflow.exceptions import MlflowException
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier
from training import data, evaluate, registry, train
from training.data import Examples, Periods, load_examples, periods, split_by_time
from fraud_common.errors import UserError
from training.estimators import fit, scores
from training.export import INPUT, OUTPUT, check_parity, export_onnx, onnx_scores
from training.reference import distribution, reference
from training.settings import Settings, load_settings

# Read now: MLflow writes the address that it is given into the environment.
MLFLOW_URL = os.environ.get("MLFLOW_TRACKING_URI", "")
MODELS = ("random_forest", "extra_trees", "hist_gradient_boosting", "logistic_regression", "decision_tree")
SCENARIOS = ("burst", "far_away", "spree")
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 28
SPLIT = periods(START, START + timedelta(days=DAYS))


def moment(days: float) -> np.datetime64:
    return np.datetime64((START + timedelta(days=days)).replace(tzinfo=None), "ms")


def world(rows: int = 20_000, seed: int = 1) -> Examples:
    """Payments of four weeks; each kind of fraud shows in two features of its own, so no two rules find them all."""
    random = np.random.default_rng(seed)
    matrix = random.lognormal(3, 1, (rows, len(FEATURES))).astype(np.float32)
    kind = np.where(random.random(rows) < 0.05, random.integers(0, len(SCENARIOS), rows), -1)
    for scenario in range(len(SCENARIOS)):
        own = np.flatnonzero(kind == scenario)
        for feature in (2 * scenario + 1, 2 * scenario + 2):
            matrix[own, feature] *= random.lognormal(2.2, 0.5, len(own)).astype(np.float32)
    is_fraud = kind >= 0
    day = random.uniform(0, DAYS, rows)
    event_time = moment(0) + (day * 86_400_000).astype("timedelta64[ms]")
    known_at = event_time + (random.uniform(0, 5, rows) * 86_400_000).astype("timedelta64[ms]")
    return Examples(
        matrix=matrix,
        is_fraud=is_fraud,
        event_time=event_time,
        known_at=np.where(is_fraud, known_at, np.datetime64("NaT", "ms")),
        user_id=np.array([f"U{i}" for i in random.integers(0, 2_000, rows)], dtype=object),
        fraud_type=np.array([SCENARIOS[k] if k >= 0 else "" for k in kind], dtype=object),
        weight=np.ones(rows),
    )


def few(days: list[float], **columns: list[Any]) -> Examples:
    """Examples at these days, honest payments of 10 unless the columns say otherwise."""
    n = len(days)
    matrix = np.zeros((n, len(FEATURES)), dtype=np.float32)
    matrix[:, FEATURES.index("amount")] = columns.pop("amount", [10.0] * n)
    values: dict[str, Any] = {
        "is_fraud": [False] * n,
        "known_at": [np.datetime64("NaT", "ms")] * n,
        "user_id": [f"U{i}" for i in range(n)],
        "fraud_type": [""] * n,
        "weight": [1.0] * n,
        **columns,
    }
    return Examples(
        matrix=matrix,
        event_time=np.array([moment(day) for day in days]),
        is_fraud=np.array(values["is_fraud"], dtype=bool),
        known_at=np.array(values["known_at"], dtype="datetime64[ms]"),
        user_id=np.array(values["user_id"], dtype=object),
        fraud_type=np.array(values["fraud_type"], dtype=object),
        weight=np.array(values["weight"], dtype=float),
    )


@pytest.fixture
def settings() -> Settings:
    # Frauds weigh what they are: probabilities are then those of the population.
    return Settings(training_jobs=1, training_fraud_weight=1.0)


@pytest.fixture(scope="module")
def parts() -> tuple[Examples, Examples]:
    return split_by_time(world(), SPLIT)


@pytest.fixture(scope="module")
def forest(parts: tuple[Examples, Examples]) -> tuple[Any, np.ndarray]:
    """A forest, and its scores of the holdout."""
    learned, holdout = parts
    model = fit(Settings(training_fraud_weight=1.0), learned)
    return model, scores(model, holdout)


# ---------- the split


def test_the_last_week_judges_and_the_week_before_it_is_left_out() -> None:
    split = periods(START, START + timedelta(days=45))
    week = timedelta(days=7)
    assert (split.holdout_start, split.train_end) == (split.end - week, split.end - 2 * week)


def test_a_short_history_is_divided_in_quarters() -> None:
    split = periods(START, START + timedelta(days=8))
    assert [split.train_end, split.holdout_start, split.end] == [START + timedelta(days=d) for d in (4, 6, 8)]


def test_learned_and_judged_payments_are_apart_by_the_delay_of_labels(parts: tuple[Examples, Examples]) -> None:
    learned, holdout = parts
    assert len(learned) and len(holdout)
    assert learned.event_time.max() < moment(14)
    assert holdout.event_time.min() >= moment(21)


@pytest.mark.parametrize(
    ("known_at", "learned_as_fraud"),
    [(moment(20.9), True), (moment(21.1), False), (np.datetime64("NaT", "ms"), False)],
    ids=["reported before the model is made", "reported after it", "never reported"],
)
def test_a_label_of_the_future_is_not_learned(known_at: np.datetime64, learned_as_fraud: bool) -> None:
    learned, _ = split_by_time(few([13.0], is_fraud=[True], fraud_type=["spree"], known_at=[known_at]), SPLIT)
    assert list(learned.is_fraud) == [learned_as_fraud]


def test_what_becomes_known_later_changes_nothing_that_is_learned() -> None:
    examples = world(5_000)
    before, _ = split_by_time(examples.where(np.ones(len(examples), dtype=bool)), SPLIT)
    # From the day on which the model is made, every verdict is turned round.
    later = ~(examples.known_at <= moment(21))
    turned = dataclasses.replace(
        examples,
        is_fraud=np.where(later, ~examples.is_fraud, examples.is_fraud),
        known_at=np.where(later, moment(25), examples.known_at),
    )
    after, _ = split_by_time(turned, SPLIT)
    assert np.array_equal(before.is_fraud, after.is_fraud)
    assert np.array_equal(before.matrix, after.matrix)


def test_the_holdout_is_judged_by_all_that_is_known_today() -> None:
    _, holdout = split_by_time(few([27.0], is_fraud=[True], fraud_type=["spree"], known_at=[moment(40)]), SPLIT)
    assert list(holdout.is_fraud) == [True]


# ---------- samples


def counted(monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int, int, int], examples: Examples) -> list[str]:
    """Trino gives these counts, then these examples; returns the queries that it was asked."""
    asked: list[str] = []

    def query(settings: Settings, sql: str) -> list[tuple[int, ...]]:
        asked.append(sql)
        return [counts]

    def read(settings: Settings, sql: str, expected: int) -> Examples:
        asked.append(sql)
        return examples

    monkeypatch.setattr(data, "_query", query)
    monkeypatch.setattr(data, "_read", read)
    return asked


def test_a_sampled_payment_stands_for_those_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = few([1.0, 2.0, 3.0, 27.0], is_fraud=[True, False, False, False])
    asked = counted(monkeypatch, (100, 12_000, 60, 5_000), rows)
    examples = load_examples(Settings(training_honest_per_fraud=30), 5, SPLIT)
    # 3,000 of 12,000 honest payments are drawn; frauds and the holdout are complete.
    assert examples.weight.tolist() == pytest.approx([1.0, 4.0, 4.0, 1.0], rel=1e-5)
    assert all("for version as of 5" in sql for sql in asked)


def test_nothing_is_weighted_where_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, (100, 2_000, 60, 5_000), few([1.0, 2.0], is_fraud=[True, False]))
    assert load_examples(Settings(), 5, SPLIT).weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("counts", [(49, 9_000, 60, 5_000), (100, 9_000, 24, 5_000)])
def test_too_few_frauds_are_refused(monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int, int, int]) -> None:
    counted(monkeypatch, counts, few([]))
    with pytest.raises(UserError, match=rf"too few frauds.*: {counts[0]} from .* and {counts[2]} in the holdout"):
        load_examples(Settings(training_minimum_frauds=50), 5, SPLIT)


def test_probabilities_of_a_sample_are_those_of_the_population(
    settings: Settings, parts: tuple[Examples, Examples]
) -> None:
    learned, holdout = parts
    random = np.random.default_rng(5)
    drawn = learned.where(learned.is_fraud | (random.random(len(learned)) < 0.2))
    weighted = dataclasses.replace(drawn, weight=np.where(drawn.is_fraud, 1.0, 5.0))
    rate = learned.is_fraud.mean()
    assert scores(fit(settings, weighted), holdout).mean() == pytest.approx(rate, rel=0.3)
    assert scores(fit(settings, drawn), holdout).mean() > 2.5 * rate


def test_a_weight_for_frauds_raises_their_scores(settings: Settings, parts: tuple[Examples, Examples]) -> None:
    learned, holdout = parts
    heavier = settings.model_copy(update={"training_fraud_weight": 10.0})
    assert scores(fit(heavier, learned), holdout).mean() > 2 * scores(fit(settings, learned), holdout).mean()


# ---------- what a model has learned


def test_the_forest_learns_what_a_shallow_tree_can_not(
    parts: tuple[Examples, Examples], forest: tuple[Any, np.ndarray]
) -> None:
    learned, holdout = parts
    shallow = DecisionTreeClassifier(max_depth=2, random_state=0).fit(learned.matrix, learned.is_fraud)
    of_forest = average_precision_score(holdout.is_fraud, forest[1])
    assert average_precision_score(holdout.is_fraud, scores(shallow, holdout)) < of_forest / 2
    assert roc_auc_score(holdout.is_fraud, forest[1]) > 0.9


def test_labels_that_have_nothing_to_do_with_the_payments_teach_nothing(settings: Settings) -> None:
    # Permuted before the split: frauds of the holdout that were alike would all be right or wrong together.
    examples = world(40_000, seed=3)
    order = np.random.default_rng(0).permutation(len(examples))
    permuted = dataclasses.replace(
        examples, **{name: getattr(examples, name)[order] for name in ("is_fraud", "known_at", "fraud_type")}
    )
    learned, holdout = split_by_time(dataclasses.replace(permuted, known_at=permuted.event_time), SPLIT)
    assert roc_auc_score(holdout.is_fraud, scores(fit(settings, learned), holdout)) == pytest.approx(0.5, abs=0.03)


def test_the_same_examples_give_the_same_model(settings: Settings, parts: tuple[Examples, Examples]) -> None:
    learned, holdout = parts
    first, second = (scores(fit(settings, learned), holdout) for _ in range(2))
    assert np.array_equal(first, second)


# ---------- evaluation


def test_card_precision_counts_cards_not_payments() -> None:
    # Day 21: A (twice) and B lead, A has a fraud; day 22: C and D lead, both have one. E is never among the two.
    holdout = few(
        [21.1, 21.2, 21.3, 21.4, 22.1, 22.2, 22.3],
        user_id=["A", "A", "B", "E", "C", "D", "E"],
        is_fraud=[True, False, False, True, True, True, False],
    )
    found = np.array([0.2, 0.9, 0.8, 0.1, 0.7, 0.6, 0.5])
    assert evaluate.card_precision(holdout, found, cards=2) == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_calibration_error_is_the_distance_from_the_observed_rate() -> None:
    random = np.random.default_rng(2)
    probability = random.uniform(0, 0.4, 200_000)
    is_fraud = random.random(len(probability)) < probability
    assert evaluate.calibration_error(is_fraud, probability) < 0.005
    assert evaluate.calibration_error(is_fraud, probability + 0.1) == pytest.approx(0.1, abs=0.005)


def test_thresholds_cost_least(settings: Settings, parts: tuple[Examples, Examples], forest: tuple[Any, Any]) -> None:
    holdout, found = parts[1].where(np.arange(len(parts[1])) < 800), forest[1][:800]
    thresholds = evaluate.choose_thresholds(settings, holdout, found)
    least = {
        look: min(evaluate.cost(holdout, found, threshold, look) for threshold in np.unique(found))
        for look in (settings.training_review_cost, settings.training_challenge_cost)
    }
    high = evaluate.cost(holdout, found, thresholds["high"], settings.training_review_cost)
    medium = evaluate.cost(holdout, found, thresholds["medium"], settings.training_challenge_cost)
    assert high == pytest.approx(least[settings.training_review_cost])
    assert medium == pytest.approx(least[settings.training_challenge_cost])
    assert thresholds["medium"] <= thresholds["high"]


def test_a_report_is_overall_and_by_scenario(
    settings: Settings, parts: tuple[Examples, Examples], forest: tuple[Any, np.ndarray]
) -> None:
    holdout, found = parts[1], forest[1]
    report = evaluate.evaluate(settings, holdout, found)
    assert report.metrics["auc_roc"] == pytest.approx(roc_auc_score(holdout.is_fraud, found))
    assert report.metrics["base_rate"] == pytest.approx(holdout.is_fraud.mean())
    assert sum(report.metrics[f"{s}.frauds"] for s in SCENARIOS) == holdout.is_fraud.sum()
    flagged = found >= report.thresholds["high"]
    assert report.metrics["recall_high"] == pytest.approx(flagged[holdout.is_fraud].mean())
    for scenario in SCENARIOS:
        own = holdout.fraud_type == scenario
        among = own | ~holdout.is_fraud
        assert report.metrics[f"{scenario}.recall_high"] == pytest.approx(flagged[own].mean())
        assert report.metrics[f"{scenario}.auc_roc"] == pytest.approx(roc_auc_score(own[among], found[among]))


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_every_report_can_be_drawn(
    settings: Settings, parts: tuple[Examples, Examples], tmp_path: Path, name: str
) -> None:
    learned, holdout = parts
    model = fit(settings.model_copy(update={"training_model": name}), learned)
    found = scores(model, holdout)
    figures = evaluate.plots(model, holdout, found, evaluate.evaluate(settings, holdout, found))
    for file, figure in figures.items():
        figure.savefig(tmp_path / file)
    assert {"precision_recall.png", "calibration.png", "score_by_scenario.png"} <= set(figures)


# ---------- ONNX


@pytest.mark.parametrize("name", MODELS)
def test_onnx_answers_as_scikit_learn_does(settings: Settings, parts: tuple[Examples, Examples], name: str) -> None:
    learned, holdout = parts
    model = fit(settings.model_copy(update={"training_model": name}), learned)
    assert check_parity(export_onnx(model), holdout, scores(model, holdout)) < 1e-5


def test_a_model_whose_onnx_differs_is_refused(parts: tuple[Examples, Examples], forest: tuple[Any, Any]) -> None:
    found = forest[1].copy()
    found[7] += 1e-4
    with pytest.raises(UserError, match=r"differ by up to 0\.0001 .*1 of .* payments\): this model is not registered"):
        check_parity(export_onnx(forest[0]), parts[1], found)


# ---------- the rules


@pytest.mark.parametrize(
    ("auc", "average_precision", "current", "stage", "why"),
    [
        (0.95, 0.60, None, "Production", "nothing is in Production"),
        (0.95, 0.60, 0.59, "Production", "0.6000 is better than Production's 0.5900 on the same holdout"),
        (0.95, 0.60, 0.60, "Staging", "no better than Production's 0.6000"),
        (0.95, 0.60, 0.61, "Staging", "no better than Production's 0.6100"),
        (0.90, 0.60, None, "Production", "reaches the bar"),
        (0.8999, 0.90, 0.10, "None", "below the bar of 0.90"),
        (0.8999, 0.90, None, "None", "below the bar of 0.90"),
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
        load_settings()


@pytest.mark.parametrize(
    "call", [lambda s: registry.connect(s), lambda s: data.data_version(s)], ids=["MLflow", "Trino"]
)
def test_a_service_that_is_down_is_named(call: Callable[[Settings], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"localhost:1[^0-9]"):
        call(Settings(mlflow_tracking_uri="http://localhost:1", trino_host="localhost", trino_port=1))


# ---------- MLflow


@dataclasses.dataclass
class Registry:
    """A registered model of the test's own in the real MLflow, and a training run on made-up payments."""

    client: mlflow.MlflowClient
    name: str
    settings: Settings

    def train(self, model: str, **settings: Any) -> Any:
        """One whole run; returns the version that it made."""
        train.train(self.settings.model_copy(update={"training_model": model, **settings}))
        return registry.versions(self.client)[0]

    def stages(self) -> dict[str, str]:
        return {str(v.version): v.current_stage for v in registry.versions(self.client)}

    def alias(self, alias: str) -> str:
        return str(self.client.get_model_version_by_alias(self.name, alias).version)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    settings = Settings(mlflow_tracking_uri=MLFLOW_URL, training_jobs=1, training_minimum_auc=0.6)
    name = f"test-{uuid.uuid4().hex[:8]}"
    for module in (registry, train):
        monkeypatch.setattr(module, "MODEL_NAME", name)
    monkeypatch.setattr(train, "EXPERIMENT", name)
    monkeypatch.setattr(train, "data_version", lambda _: (7, START, START + timedelta(days=DAYS)))
    monkeypatch.setattr(train, "load_examples", made_up)
    client = registry.connect(settings)
    yield Registry(client, name, settings)
    for version in registry.versions(client):
        client.delete_model_version(name, version.version)
    client.delete_registered_model(name)
    client.delete_experiment(client.get_experiment_by_name(name).experiment_id)


def made_up(settings: Settings, version: int, split: Periods) -> Examples:
    return world()


@pytest.mark.stack
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


@pytest.mark.stack
@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_registered_and_loaded(own: Registry, parts: tuple[Examples, Examples], name: str) -> None:
    own.train(name)
    loaded = mlflow.sklearn.load_model(f"models:/{own.name}@production")
    assert len(scores(loaded, parts[1].where(np.arange(len(parts[1])) < 10))) == 10


@pytest.mark.stack
def test_life_of_versions_and_the_way_back(own: Registry) -> None:
    # The first that reaches the bar serves.
    own.train("decision_tree")
    assert own.stages() == {"1": "Production"}
    assert own.alias("production") == own.alias("staging") == "1"

    # A better one takes its place.
    better = own.train("random_forest")
    assert own.stages() == {"1": "Archived", "2": "Production"}
    assert own.alias("production") == "2"
    compared = own.client.get_run(better.run_id).data
    assert compared.metrics["production_average_precision"] < compared.metrics["average_precision"]
    assert "better than Production's" in compared.tags["decision"]

    # A worse one waits, and says why; so does an equal one.
    for version, model in (("3", "logistic_regression"), ("4", "random_forest")):
        refused = own.train(model)
        assert own.stages()[version] == "Staging" and own.alias("staging") == version
        assert "no better than Production's" in refused.tags["decision"]
    assert own.alias("production") == "2"

    # One below the bar is nothing.
    own.train("decision_tree", training_minimum_auc=1.0)
    assert own.stages()["5"] == "None"

    # Back, once; there is nothing before the first.
    assert registry.rollback(own.client) == ("2", "1")
    stages = own.stages()
    assert (stages["1"], stages["2"], own.alias("production")) == ("Production", "Archived", "1")
    with pytest.raises(UserError, match="version 1 is the first"):
        registry.rollback(own.client)

    # What was rolled back is no way back; what served before it is.
    own.train("random_forest", training_seed=1)
    assert own.alias("production") == "6"
    assert registry.rollback(own.client) == ("6", "1")


@pytest.mark.stack
def test_without_a_model_there_is_no_way_back(own: Registry) -> None:
    own.client.create_registered_model(own.name)
    own.client.create_experiment(own.name)
    with pytest.raises(UserError, match="nothing is in Production"):
        registry.rollback(own.client)
    assert registry.in_production(own.client) is None


@pytest.mark.stack
def test_a_registry_that_fails_is_not_an_empty_one(own: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a new model would take Production's place without a comparison."""
    own.train("decision_tree")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = mlflow.MlflowClient("http://localhost:1")
    with pytest.raises((MlflowException, UserError)):
        registry.in_production(gone)


def test_a_reference_has_ten_even_bins_and_counts_by_weight() -> None:
    values = np.linspace(0, 1, 10_000)
    even = distribution(values, np.ones(10_000))
    assert len(even["edges"]) == 9
    assert even["shares"] == pytest.approx([0.1] * 10, abs=0.001)
    # The upper half stands for three times as many payments.
    heavy = distribution(values, np.where(values > 0.5, 3.0, 1.0))
    assert heavy["edges"][4] > 0.6
    assert heavy["shares"] == pytest.approx([0.1] * 10, abs=0.001)


def test_a_reference_of_a_flag_has_a_bin_for_each_value() -> None:
    flag = distribution(np.array([0.0] * 70 + [1.0] * 30), np.ones(100))
    assert flag["shares"] == pytest.approx([0.7, 0.3, 0.0])
    assert 0 < flag["edges"][0] < 1e-6


def test_a_reference_knows_every_feature(parts: tuple[Examples, Examples]) -> None:
    _, holdout = parts
    made = reference(holdout, np.linspace(0, 1, len(holdout)))
    assert list(made["features"]) == list(FEATURES)
    for found in (made["score"], *made["features"].values()):
        assert len(found["shares"]) == len(found["edges"]) + 1
        assert sum(found["shares"]) == pytest.approx(1)
        assert found["edges"] == sorted(set(found["edges"]))

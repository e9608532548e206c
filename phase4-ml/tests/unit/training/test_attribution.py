"""Reasons by SHAP values: against brute force, shap on scikit-learn's own model, and ONNX, for every kind of model."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
import shap
from explainer.attribution import Attribution, UnexplainedError
from explainer.graph import Trees, UnknownGraphError, read_graph
from onnx import helper, load_model_from_string
from training import estimators
from training.calibration import CalibratedClassifier, Correction
from training.estimators import Candidate, make_model
from training.export import export_onnx, onnx_scores
from training_world import MODELS

NAMES = ("amount", "hour", "is_night", "transactions_1d", "transactions_30d", "amount_mean_30d")
CORRECTION = Correction(0.9, -2.3)
RANDOM = np.random.default_rng(7)


@dataclass(frozen=True)
class Fitted:
    """A model of six features as scikit-learn and as ONNX have it, and payments that it has not seen."""

    model: CalibratedClassifier
    onnx: bytes
    background: np.ndarray
    payments: np.ndarray

    def attribution(self) -> Attribution:
        return Attribution(read_graph(self.onnx), NAMES, self.background)


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(estimators.TREES, "n_estimators", 15)
        yield


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest) -> Fitted:
    return fit(request.param)


def fit(kind: str, correction: Correction = CORRECTION) -> Fitted:
    matrix = RANDOM.lognormal(3, 1.5, (4000, len(NAMES))).astype(np.float32)
    suspicion = matrix[:, 0] * matrix[:, 3] * RANDOM.lognormal(0, 0.5, len(matrix))
    is_fraud = suspicion > np.quantile(suspicion, 0.9)
    model = CalibratedClassifier.of(make_model(Candidate(kind), 0, 1).fit(matrix, is_fraud), correction)
    legitimate = matrix[~is_fraud]
    return Fitted(
        model, export_onnx(model), legitimate[:20], np.concatenate([matrix[is_fraud][:15], legitimate[20:25]])
    )


def named(row: np.ndarray) -> dict[str, float | None]:
    return dict(zip(NAMES, map(float, row), strict=True))


def raw_output(fitted: Fitted, matrix: np.ndarray) -> np.ndarray:
    """What scikit-learn's classifier adds up: log-odds, or the mean of its trees' probabilities."""
    classifier = fitted.model.classifier
    if read_graph(fitted.onnx).is_log_odds:
        return classifier.decision_function(matrix)
    return classifier.predict_proba(matrix)[:, 1]


def test_effects_and_expectation_add_up_to_the_score_of_onnx(fitted: Fitted) -> None:
    attribution = fitted.attribution()
    for row, score in zip(fitted.payments, onnx_scores(fitted.onnx, fitted.payments), strict=True):
        explanation = attribution.explain(named(row), score)
        assert explanation.expected + sum(explanation.effects.values()) == pytest.approx(score, abs=1e-5)


def test_contributions_are_those_of_brute_force(fitted: Fitted) -> None:
    """The definition: each feature's mean contribution over all orders, in which unknown ones have the background's."""
    count, row = len(NAMES), fitted.payments[0]
    subsets = [known for size in range(count + 1) for known in combinations(range(count), size)]
    hybrids = np.tile(fitted.background, (len(subsets), 1, 1))
    for position, known in enumerate(subsets):
        hybrids[position][:, known] = row[list(known)]
    outputs = raw_output(fitted, hybrids.reshape(-1, count)).reshape(len(subsets), -1).mean(axis=1)
    value = dict(zip(subsets, outputs, strict=True))

    def contribution(feature: int) -> float:
        total = 0.0
        for known in subsets:
            if feature not in known:
                orders = factorial(len(known)) * factorial(count - len(known) - 1) / factorial(count)
                total += orders * (value[tuple(sorted((*known, feature)))] - value[known])
        return total

    expected = [contribution(feature) for feature in range(count)]
    assert fitted.attribution()._contributions(row.astype(float)) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("kind", ["random_forest", "hist_gradient_boosting", "decision_tree"])
def test_contributions_are_those_of_shap_on_scikit_learn(kind: str) -> None:
    fitted = fit(kind)
    theirs = shap.TreeExplainer(fitted.model.classifier, data=fitted.background).shap_values(
        fitted.payments, check_additivity=False
    )
    # Of a forest they are of both classes.
    of_fraud = theirs[:, :, 1] if theirs.ndim == 3 else theirs
    attribution = fitted.attribution()
    ours = np.array([attribution._contributions(row.astype(float)) for row in fitted.payments])
    assert ours == pytest.approx(of_fraud, abs=1e-5)
    assert np.abs(of_fraud).max() > 0.01


def test_a_background_of_one_payment_explains_too() -> None:
    """A model that was registered before backgrounds were has its typical values only."""
    fitted = fit("random_forest")
    attribution = Attribution(read_graph(fitted.onnx), NAMES, fitted.background[:1])
    (score,) = onnx_scores(fitted.onnx, fitted.payments[:1])
    explanation = attribution.explain(named(fitted.payments[0]), score)
    assert explanation.expected == pytest.approx(onnx_scores(fitted.onnx, fitted.background[:1])[0], abs=1e-5)
    assert explanation.expected + sum(explanation.effects.values()) == pytest.approx(score, abs=1e-5)


def test_the_payment_of_the_background_is_as_expected() -> None:
    """No effects, and no division by zero."""
    fitted = fit("hist_gradient_boosting")
    (score,) = onnx_scores(fitted.onnx, fitted.background[:1])
    attribution = Attribution(read_graph(fitted.onnx), NAMES, fitted.background[:1])
    assert attribution.explain(named(fitted.background[0]), score).reasons == []


def test_trees_that_are_a_leaf_only_are_part_of_the_expectation() -> None:
    matrix = RANDOM.normal(0, 1, (50, len(NAMES))).astype(np.float32)
    is_fraud = np.arange(50) < 5
    # No leaf has as few examples as there are: nothing can be split.
    stump = estimators.DecisionTreeClassifier(min_samples_leaf=40).fit(matrix, is_fraud)
    onnx = export_onnx(CalibratedClassifier.of(stump, Correction(1.0, 0.0)))
    explanation = Attribution(read_graph(onnx), NAMES, matrix[:3]).explain(named(matrix[0]), 0.1)
    assert (explanation.expected, explanation.reasons) == (pytest.approx(0.1, abs=1e-5), [])


def test_reasons_are_the_largest_effects() -> None:
    fitted = fit("random_forest")
    frauds = fitted.payments[:15]
    attribution = fitted.attribution()
    causes = []
    for payment, score in zip(frauds, onnx_scores(fitted.onnx, frauds), strict=True):
        reasons = attribution.explain(named(payment), score).reasons
        effects = [abs(reason["effect"]) for reason in reasons]
        assert 1 <= len(effects) <= 5 and effects == sorted(effects, reverse=True)
        assert reasons[0]["effect"] > 0
        assert all(np.float32(reason["value"]) == payment[NAMES.index(reason["name"])] for reason in reasons)
        causes.append({reason["name"] for reason in reasons[:2]})
    # `fit` makes frauds of large values of these two.
    assert causes.count({"amount", "transactions_1d"}) > 10


def test_a_value_at_a_threshold_takes_the_branch_that_it_takes_in_onnx() -> None:
    """Features are stored as JSON, whose decimal of a 32-bit number may be larger than the number itself."""
    fitted = fit("hist_gradient_boosting")
    attribution = fitted.attribution()
    (trees,) = [node for node in load_model_from_string(fitted.onnx).graph.node if "TreeEnsemble" in node.op_type]
    attributes = {each.name: each for each in trees.attribute}
    inner = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings])
    thresholds = np.array(attributes["nodes_values"].floats, dtype=np.float32)[inner]
    columns = np.array(attributes["nodes_featureids"].ints)[inner]
    larger = np.array([float(str(value)) > float(value) for value in thresholds])
    assert larger.sum() > 100
    for column, threshold in list(zip(columns[larger], thresholds[larger], strict=True))[:100]:
        payment = fitted.payments[:1].copy()
        payment[0, column] = threshold
        (score,) = onnx_scores(fitted.onnx, payment)
        # Refused if it took another branch.
        attribution.explain(dict(zip(NAMES, (float(str(value)) for value in payment[0]), strict=True)), score)


def test_what_is_not_the_models_score_is_not_explained() -> None:
    fitted = fit("decision_tree")
    attribution = fitted.attribution()
    (score,) = onnx_scores(fitted.onnx, fitted.payments[:1])
    with pytest.raises(UnexplainedError, match="add up to"):
        attribution.explain(named(fitted.payments[0]), score + 0.1)
    with pytest.raises(UnexplainedError, match="no is_night"):
        attribution.explain({name: 1.0 for name in NAMES if name != "is_night"}, score)


def test_a_missing_value_takes_the_branch_that_it_takes_in_onnx() -> None:
    fitted = fit("hist_gradient_boosting")
    row = fitted.payments[0].copy()
    row[0] = np.nan
    (score,) = onnx_scores(fitted.onnx, row.reshape(1, -1))
    explanation = fitted.attribution().explain(named(row) | {"amount": None}, score)
    assert explanation.expected + sum(explanation.effects.values()) == pytest.approx(score, abs=1e-5)


def test_other_graphs_are_refused() -> None:
    model = load_model_from_string(fit("decision_tree").onnx)
    change(model, nodes_modes=lambda modes: [b"BRANCH_GT" if mode != b"LEAF" else mode for mode in modes])
    with pytest.raises(UnknownGraphError, match="BRANCH_GT"):
        read_graph(model.SerializeToString())
    model = load_model_from_string(fit("decision_tree").onnx)
    change(model, post_transform=lambda _: b"PROBIT")
    with pytest.raises(UnknownGraphError, match="PROBIT"):
        read_graph(model.SerializeToString())
    del model.graph.node[:]
    with pytest.raises(UnknownGraphError, match="no classifier"):
        read_graph(model.SerializeToString())


def change(model: Any, **changes: Any) -> None:
    """Change attributes of the classifier."""
    node = model.graph.node[0]
    for name, new in changes.items():
        (old,) = (attribute for attribute in node.attribute if attribute.name == name)
        node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, new(helper.get_attribute_value(old))))


def test_a_graph_without_a_correction_answers_as_it_is() -> None:
    fitted = fit("random_forest")
    graph = read_graph(fitted.onnx)
    assert isinstance(graph.classifier, Trees)
    without = type(graph)(graph.classifier, graph.is_log_odds, None)
    row = fitted.payments[0]
    (score,) = fitted.model.classifier.predict_proba(row.reshape(1, -1))[:, 1]
    explanation = Attribution(without, NAMES, fitted.background).explain(named(row), score)
    assert explanation.expected + sum(explanation.effects.values()) == pytest.approx(score, abs=1e-5)

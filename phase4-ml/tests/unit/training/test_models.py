"""Models fit on generated payments: what they learn, and that ONNX answers as scikit-learn does."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import FEATURES
from fraud_common.errors import UserError
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.tree import DecisionTreeClassifier
from training import estimators, evaluate
from training.calibration import CalibratedClassifier, Correction
from training.estimators import Candidate, fit, scores
from training.examples import Examples, split_by_time
from training.export import check_parity, export_onnx
from training.plots import draw_plots
from training.selection import SEARCH
from training_world import MODELS, SPLIT, UNWEIGHTED, world

# All models, and all settings that auto tries.
CANDIDATES = [*map(Candidate, MODELS), *(each for kind in SEARCH for each in kind if each.options)]
FOREST, TREE = Candidate("random_forest"), Candidate("decision_tree")


@pytest.fixture(scope="module", autouse=True)
def few_trees() -> Any:
    """The size of forests and of boosting does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(estimators.TREES, "n_estimators", 25)
        patch.setitem(estimators.BOOSTING, "max_iter", 60)
        yield


@pytest.fixture(scope="module")
def parts() -> tuple[Examples, Examples]:
    return split_by_time(world(12_000), SPLIT)


@pytest.fixture(scope="module")
def forest(parts: tuple[Examples, Examples]) -> tuple[Any, np.ndarray]:
    """A forest, and its scores of the holdout."""
    learned, holdout = parts
    model = fit(UNWEIGHTED, FOREST, learned)
    return model, scores(model, holdout)


def test_the_forest_learns_what_a_shallow_tree_can_not(
    parts: tuple[Examples, Examples], forest: tuple[Any, np.ndarray]
) -> None:
    learned, holdout = parts
    _, forest_scores = forest
    shallow = DecisionTreeClassifier(max_depth=2, random_state=0).fit(learned.matrix, learned.is_fraud)
    of_forest = average_precision_score(holdout.is_fraud, forest_scores)
    assert average_precision_score(holdout.is_fraud, scores(shallow, holdout)) < of_forest / 2
    assert roc_auc_score(holdout.is_fraud, forest_scores) > 0.9


def test_labels_that_do_not_depend_on_the_payments_teach_nothing() -> None:
    # Permuted before the split: otherwise similar frauds of the holdout would be right or wrong together.
    examples = world(20_000, seed=3)
    order = np.random.default_rng(0).permutation(len(examples))
    permuted = dataclasses.replace(
        examples, **{name: getattr(examples, name)[order] for name in ("is_fraud", "known_at", "fraud_type")}
    )
    learned, holdout = split_by_time(dataclasses.replace(permuted, known_at=permuted.event_time), SPLIT)
    found = scores(fit(UNWEIGHTED, FOREST, learned), holdout)
    assert roc_auc_score(holdout.is_fraud, found) == pytest.approx(0.5, abs=0.05)


def test_the_same_examples_give_the_same_model(
    parts: tuple[Examples, Examples], forest: tuple[Any, np.ndarray]
) -> None:
    learned, holdout = parts
    _, forest_scores = forest
    assert np.array_equal(forest_scores, scores(fit(UNWEIGHTED, FOREST, learned), holdout))


def test_probabilities_of_a_sample_are_those_of_the_population(parts: tuple[Examples, Examples]) -> None:
    learned, holdout = parts
    random = np.random.default_rng(5)
    drawn = learned.where(learned.is_fraud | (random.random(len(learned)) < 0.2))
    weighted = dataclasses.replace(drawn, weight=np.where(drawn.is_fraud, 1.0, 5.0))
    rate = learned.is_fraud.mean()
    assert scores(fit(UNWEIGHTED, FOREST, weighted), holdout).mean() == pytest.approx(rate, rel=0.3)
    assert scores(fit(UNWEIGHTED, FOREST, drawn), holdout).mean() > 2.5 * rate


def test_a_weight_for_frauds_raises_their_scores(parts: tuple[Examples, Examples]) -> None:
    learned, holdout = parts
    heavier = UNWEIGHTED.model_copy(update={"training_fraud_weight": 10.0})
    as_they_are = scores(fit(UNWEIGHTED, TREE, learned), holdout)
    assert scores(fit(heavier, TREE, learned), holdout).mean() > 2 * as_they_are.mean()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_onnx_answers_as_scikit_learn_does(parts: tuple[Examples, Examples], candidate: Candidate) -> None:
    learned, holdout = (part.where(np.arange(len(part)) < 2_000) for part in parts)
    classifier = fit(UNWEIGHTED, candidate, learned)
    for correction in (Correction(1.0, 0.0), Correction(0.8, -2.3), Correction(1.4, 0.5)):
        model = CalibratedClassifier.of(classifier, correction)
        assert check_parity(export_onnx(model), holdout.matrix, scores(model, holdout)) < 1e-5


def test_a_model_whose_onnx_differs_is_refused(parts: tuple[Examples, Examples], forest: tuple[Any, Any]) -> None:
    _, holdout = parts
    model, forest_scores = forest
    wrong = forest_scores.copy()
    wrong[7] += 1e-3
    with pytest.raises(UserError, match=r"differ by up to 0\.001 .*1 of .* payments\): this model is not registered"):
        check_parity(export_onnx(CalibratedClassifier(model)), holdout.matrix, wrong)


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_every_report_can_be_drawn(parts: tuple[Examples, Examples], tmp_path: Path, name: str) -> None:
    learned, holdout = (part.where(np.arange(len(part)) < 1_500) for part in parts)
    model = fit(UNWEIGHTED, Candidate(name), learned)
    holdout_scores = scores(model, holdout)
    report = evaluate.evaluate(UNWEIGHTED, holdout, holdout_scores)
    figures = draw_plots(model, FEATURES, holdout, holdout_scores, report)
    for file, figure in figures.items():
        figure.savefig(tmp_path / file)
    assert {"precision_recall.png", "calibration.png", "score_by_scenario.png"} <= set(figures)

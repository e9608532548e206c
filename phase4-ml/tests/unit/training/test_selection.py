"""TRAINING_MODEL=auto: which model is chosen, by what evidence, and that one fit serves choice and correction."""

from typing import Any

import numpy as np
import pytest
from training import estimators, selection
from training.calibration import RECALIBRATION_FRAUDS, prior_correction, recalibration
from training.estimators import Candidate, fit, scores
from training.examples import Examples, split_by_time
from training.gold import Dataset
from training.selection import SEARCH, choose
from training.train import fit_and_evaluate
from training.validation import last_days, thin_out
from training_world import DAYS, MODELS, SPLIT, UNWEIGHTED, few, world

AUTO = UNWEIGHTED.model_copy(update={"training_model": "auto", "training_fraud_weight": 10.0})
STUMP = Candidate("decision_tree", {"max_depth": 1})
SHALLOW = Candidate("decision_tree", {"max_depth": 2})
TREE = Candidate("decision_tree")
FOREST = Candidate("random_forest", {"n_estimators": 20})


@pytest.fixture(scope="module")
def learned() -> Examples:
    learned, _ = split_by_time(world(12_000), SPLIT)
    return learned


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Candidate, int]]:
    """What is fitted, and on how many examples."""
    found: list[tuple[Candidate, int]] = []

    def noted(settings: Any, candidate: Candidate, train: Examples, features: Any) -> Any:
        found.append((candidate, len(train)))
        return fit(settings, candidate, train, features)

    monkeypatch.setattr(selection, "fit", noted)
    return found


def search(monkeypatch: pytest.MonkeyPatch, *kinds: tuple[Candidate, ...]) -> None:
    monkeypatch.setattr(selection, "SEARCH", kinds)


def test_the_best_model_is_chosen_with_the_correction_of_its_own_scores(
    learned: Examples, fits: list[tuple[Candidate, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    search(monkeypatch, (STUMP,), (FOREST,), (TREE,))
    choice = choose(AUTO, learned, estimators.FEATURES)
    assert choice.candidate == FOREST
    assert "better than decision_tree by 0." in choice.reason
    # Nothing is fitted twice, and nothing has seen the last days.
    earlier, last = last_days(learned)
    assert fits == [(STUMP, len(earlier)), (FOREST, len(earlier)), (TREE, len(earlier))]
    seen = scores(fit(AUTO, FOREST, earlier), last)
    expected = recalibration(prior_correction(10.0), seen, last.is_fraud, last.weight)
    assert choice.correction == expected != prior_correction(10.0)


def test_of_models_that_rank_equally_the_first_is_chosen(learned: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    same = Candidate("random_forest", {"n_estimators": 20, "verbose": 0})
    for kinds in (((FOREST,), (same,)), ((same,), (FOREST,)), ((STUMP,), (same,), (FOREST,))):
        search(monkeypatch, *kinds)
        choice = choose(AUTO, learned, estimators.FEATURES)
        skills = [trial.skill.average_precision for trial in choice.trials]
        assert skills[-1] == skills[-2] == max(skills)
        assert choice.candidate == choice.trials[-2].candidate
        assert f"better than {choice.trials[-1].candidate} by 0.0000 to 0.0000" in choice.reason


def test_weak_settings_are_dropped_on_few_payments(
    learned: Examples, fits: list[tuple[Candidate, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    search(monkeypatch, (STUMP, TREE, SHALLOW))
    choice = choose(AUTO, learned, estimators.FEATURES)
    assert choice.candidate == TREE
    earlier, _ = last_days(learned)
    few_payments = len(thin_out(earlier, selection.SCREENING_LEGITIMATE_PER_FRAUD, AUTO.training_seed))
    assert few_payments < 0.7 * len(earlier)
    assert fits == [(STUMP, few_payments), (TREE, few_payments), (SHALLOW, few_payments), (TREE, len(earlier))]
    # The evidence is all of it.
    table = choice.table()
    assert table["settings"] == ["max_depth=1", "usual", "max_depth=2", "usual"]
    assert table["examples"] == [count for _, count in fits]
    assert table["chosen"] == [False, True, False, True]
    assert len({len(column) for column in table.values()}) == 1


def test_a_model_that_is_named_is_fitted_once(learned: Examples, fits: list[tuple[Candidate, int]]) -> None:
    choice = choose(AUTO.model_copy(update={"training_model": "decision_tree"}), learned, estimators.FEATURES)
    assert choice.candidate == TREE and len(fits) == 1
    assert choice.correction != prior_correction(10.0)


@pytest.mark.parametrize("side", ["earlier", "last"])
def test_with_too_few_frauds_for_a_validation_it_is_the_random_forest(
    side: str, fits: list[tuple[Candidate, int]]
) -> None:
    """And the reason says so."""
    day = {"earlier": 1.0, "last": 19.5}
    frauds = [day[side]] * (RECALIBRATION_FRAUDS - 1) + [day["last" if side == "earlier" else "earlier"]] * 200
    days = frauds + np.linspace(0, 20, 400).tolist()
    examples = few(days, is_fraud=[True] * len(frauds) + [False] * 400)
    choice = choose(AUTO, examples, estimators.FEATURES)
    assert choice.candidate == Candidate("random_forest")
    assert choice.correction == prior_correction(10.0)
    assert "random_forest: too few frauds to try models on the last days" in choice.reason
    assert f"({RECALIBRATION_FRAUDS - 1} on one side" in choice.reason
    assert fits == [] and choice.trials == ()


def test_a_sample_represents_all_payments() -> None:
    examples = few(np.linspace(0, 20, 20_000).tolist(), is_fraud=[True] * 200 + [False] * 19_800)
    examples.weight[200:] = 3.0
    fewer = thin_out(examples, 10, seed=1)
    assert fewer.is_fraud.sum() == 200 and (fewer.weight[fewer.is_fraud] == 1).all()
    assert (~fewer.is_fraud).sum() == pytest.approx(2_000, rel=0.1)
    assert fewer.weight.sum() == pytest.approx(examples.weight.sum(), rel=0.1)
    assert (examples.weight[200:] == 3.0).all()
    assert thin_out(examples, 200, seed=1) is examples


def test_auto_chooses_the_forest_first_among_models_that_can_be_named() -> None:
    names = [{candidate.name for candidate in kind} for kind in SEARCH]
    assert all(len(kind) == 1 for kind in names) and names[0] == {"random_forest"}
    assert set.union(*names) <= set(MODELS)
    # The first of each model is what TRAINING_MODEL=<its name> trains.
    assert [kind[0].options for kind in SEARCH] == [{}] * len(SEARCH)


def test_a_run_chooses_and_says_what_it_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(estimators.TREES, "n_estimators", 10)
    monkeypatch.setitem(estimators.BOOSTING, "max_iter", 10)
    dataset = Dataset(
        "generated", 7, SPLIT, DAYS, world(8_000, seed=5), "all examples have full windows", "nothing late"
    )
    trained = fit_and_evaluate(AUTO, dataset)
    said = capsys.readouterr().err
    for kind in SEARCH:
        assert f"tried {kind[0].name}" in said
    assert f"s: {trained.choice.reason}" in said
    assert trained.report.metrics["auc_roc"] > 0.8
    assert (trained.model.slope, trained.model.offset) == (
        trained.choice.correction.slope,
        trained.choice.correction.offset,
    )
    kind = type(estimators.make_model(trained.choice.candidate, 1, 1))
    assert type(trained.model.classifier) is kind

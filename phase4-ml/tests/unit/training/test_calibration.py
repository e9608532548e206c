"""F3: scores that are probabilities, whatever frauds weighed, whatever was left out, whatever is not reported yet."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import skops.io
from features import FEATURES
from sklearn.linear_model import LogisticRegression
from training import estimators
from training.calibration import (
    RECALIBRATION_FRAUDS,
    SMALLEST,
    CalibratedClassifier,
    Correction,
    log_odds,
    prior_correction,
    recalibration,
)
from training.evaluate import calibration_error
from training.export import INPUT, OUTPUT, TOLERANCE, export_onnx, onnx_scores
from training.gold import Dataset
from training.registry import ServedModel
from training.train import OWN_TYPES, fit_and_evaluate
from training.validation import last_days
from training_world import DAYS, SPLIT, UNWEIGHTED, few, world


def odds(probability: np.ndarray) -> np.ndarray:
    return probability / (1 - probability)


class Fixed:
    """A classifier that answers the first column."""

    classes_ = np.array([False, True])

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        return np.column_stack([1 - matrix[:, 0], matrix[:, 0]])


def corrected(scores: np.ndarray, correction: Correction) -> np.ndarray:
    return CalibratedClassifier.of(Fixed(), correction).predict_proba(scores.reshape(-1, 1))[:, 1]


def test_the_prior_correction_divides_the_odds_by_the_weight() -> None:
    """F3: a fraud weighed ten times its share."""
    scores = np.array([0.001, 0.02, 0.5, 0.95])
    assert odds(corrected(scores, prior_correction(10.0))) == pytest.approx(odds(scores) / 10)
    assert corrected(scores, prior_correction(1.0)) == pytest.approx(scores)


def test_the_prior_correction_is_exact_where_the_model_is() -> None:
    """F3: a logistic regression of a logistic world, with every fraud tenfold, is that of the world after it."""
    random = np.random.default_rng(1)
    matrix = random.normal(0, 1, (200_000, 2))
    true = 1 / (1 + np.exp(4 - 1.5 * matrix[:, 0]))
    is_fraud = random.random(len(true)) < true
    heavy = LogisticRegression(C=np.inf).fit(matrix, is_fraud, sample_weight=np.where(is_fraud, 10.0, 1.0))
    assert heavy.predict_proba(matrix)[:, 1].mean() > 3 * true.mean()
    found = CalibratedClassifier.of(heavy, prior_correction(10.0)).predict_proba(matrix)[:, 1]
    assert found.mean() == pytest.approx(true.mean(), rel=0.03)
    assert calibration_error(is_fraud, found) < 0.002


def test_probabilities_are_probabilities_and_keep_their_order() -> None:
    scores = np.linspace(0, 1, 1001)
    found = corrected(scores, Correction(1.7, -3.0))
    assert found.min() > 0 and found.max() < 1
    assert (np.diff(found) >= 0).all() and (np.diff(found[10:-10]) > 0).all()
    classifier = CalibratedClassifier.of(Fixed(), prior_correction(10.0))
    assert classifier.predict(np.array([[0.9], [0.92]])).tolist() == [False, True]
    assert classifier.predict_proba(np.array([[0.3], [1.0]])).sum(axis=1) == pytest.approx([1, 1])


def test_log_odds_are_finite() -> None:
    limit = np.log(1 / SMALLEST)
    assert log_odds(np.array([0.0, 0.5, 1.0])) == pytest.approx([-limit, 0, limit], rel=1e-6)


def drawn(slope: float, offset: float, rows: int = 300_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels with log-odds of `slope` times those of the score plus `offset`."""
    random = np.random.default_rng(2)
    scores = 1 / (1 + np.exp(random.normal(3, 1.5, rows)))
    return scores, random.random(rows) < 1 / (1 + np.exp(-slope * log_odds(scores) - offset))


def test_a_recalibration_finds_what_the_prior_correction_leaves() -> None:
    scores, is_fraud = drawn(1.4, -1.0)
    found = recalibration(prior_correction(10.0), scores, is_fraud, np.ones(len(scores)))
    assert (found.slope, found.offset) == (pytest.approx(1.4, abs=0.05), pytest.approx(-1.0, abs=0.1))
    assert calibration_error(is_fraud, corrected(scores, found)) < 0.002


def test_a_recalibration_counts_payments_that_were_left_out() -> None:
    scores, is_fraud = drawn(1.0, -1.0)
    kept = is_fraud | (np.random.default_rng(3).random(len(scores)) < 0.25)
    weight = np.where(is_fraud, 1.0, 4.0)
    found = recalibration(prior_correction(1.0), scores[kept], is_fraud[kept], weight[kept])
    assert (found.slope, found.offset) == (pytest.approx(1.0, abs=0.05), pytest.approx(-1.0, abs=0.1))


@pytest.mark.parametrize("why", ["few frauds", "the wrong order", "only frauds"])
def test_without_evidence_the_prior_correction_is_all(why: str) -> None:
    scores, is_fraud = drawn(1.0, 0.0, 20_000)
    if why == "few frauds":
        is_fraud[np.flatnonzero(is_fraud)[RECALIBRATION_FRAUDS - 1 :]] = False
    elif why == "the wrong order":
        scores = 1 - scores
    else:
        is_fraud[:] = True
    prior = prior_correction(10.0)
    assert recalibration(prior, scores, is_fraud, np.ones(len(scores))) is prior


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("generated", 7, SPLIT, DAYS, world(40_000, seed=5), "no warm-up", "nothing late")


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_a_run_gives_probabilities_though_frauds_weigh_more(
    dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3: the mean score of the holdout is its rate of fraud; 5 % here, so all errors are larger than with payments."""
    monkeypatch.setitem(estimators.TREES, "n_estimators", 40)
    settings = UNWEIGHTED.model_copy(update={"training_model": name, "training_fraud_weight": 10.0})
    trained = fit_and_evaluate(settings, dataset)
    metrics = trained.report.metrics
    assert metrics["mean_score_to_base_rate"] == pytest.approx(1, abs=0.1)
    assert metrics["calibration_error"] < 0.01
    assert metrics["brier"] < metrics["brier_of_base_rate"]
    raw = trained.model.classifier.predict_proba(trained.holdout.matrix)[:, 1]
    assert raw.mean() > 2 * metrics["base_rate"]
    # What is registered, what serves and what was evaluated are the same.
    loaded: Any = skops.io.load(io.BytesIO(skops.io.dumps(trained.model)), trusted=OWN_TYPES)
    assert np.array_equal(loaded.predict_proba(trained.holdout.matrix)[:, 1], trained.scores)
    assert np.abs(onnx_scores(trained.onnx, trained.holdout.matrix) - trained.scores).max() < TOLERANCE


def test_features_of_one_value_are_dropped_and_named(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """The served model says which features it takes."""
    matrix = dataset.examples.matrix.copy()
    matrix[:, [5, 9]] = 3.0
    constant = replace(dataset, examples=replace(dataset.examples.where(np.arange(8_000)), matrix=matrix[:8_000]))
    trained = fit_and_evaluate(UNWEIGHTED.model_copy(update={"training_model": "decision_tree"}), constant)
    assert trained.features == tuple(name for i, name in enumerate(FEATURES) if i not in (5, 9))
    assert trained.model.n_features_in_ == len(FEATURES) - 2
    assert f"without {FEATURES[5]}, {FEATURES[9]}, which have only one value" in capsys.readouterr().err
    # What serves takes the columns by name, whatever is in the others.
    trained.holdout.matrix[:, [5, 9]] = np.nan
    served = ServedModel(trained.onnx, list(trained.features), 0.1, 0.5).scores(trained.holdout.matrix)
    assert np.abs(served - trained.scores).max() < TOLERANCE


def test_the_onnx_graph_has_one_output(dataset: Dataset) -> None:
    import onnxruntime

    classifier = LogisticRegression().fit(dataset.examples.matrix[:2_000], dataset.examples.is_fraud[:2_000])
    session = onnxruntime.InferenceSession(export_onnx(CalibratedClassifier(classifier, 1.2, -1.0)))
    assert [each.name for each in session.get_inputs()] == [INPUT]
    assert [(each.name, each.type, each.shape[1]) for each in session.get_outputs()] == [(OUTPUT, "tensor(float)", 2)]


@pytest.mark.parametrize(("days", "last"), [(30.0, 7.0), (17.0, 17 / 3)])
def test_a_correction_is_fitted_on_the_last_week_or_third(days: float, last: float) -> None:
    earlier, week = last_days(few(np.linspace(0, days, 1_000).tolist()))
    assert len(earlier) + len(week) == 1_000 and earlier.event_time.max() < week.event_time.min()
    length = (week.event_time.max() - week.event_time.min()) / np.timedelta64(1, "D")
    assert length == pytest.approx(last, abs=0.05)

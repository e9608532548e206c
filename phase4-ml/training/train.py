"""One training run: reads Gold, registers a model version in MLflow, and promotes it if the rules allow it.

python -m training.train [--skip-if-too-few]
"""

import argparse
import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
from features import FEATURES
from fraud_common.errors import EXIT_SKIPPED, one_line_errors
from fraud_common.models import MODEL_NAME
from fraud_common.settings import load_settings
from matplotlib import pyplot as plt
from mlflow.models import infer_signature
from sklearn.metrics import average_precision_score, roc_auc_score

from training import registry
from training.calibration import CalibratedClassifier, prior_correction
from training.compare import Comparison, compare
from training.enough import TooFewExamples
from training.estimators import fit, scores
from training.evaluate import Report, calibration_error, evaluate
from training.examples import Examples, select_features, split_by_time, varying_features
from training.export import check_parity, export_onnx
from training.gold import Dataset, load_dataset, print_progress
from training.plots import draw_plots
from training.promotion import Decision, judge
from training.prune import prune
from training.reference import background, reference
from training.selection import Choice, choose
from training.settings import Settings

# skops asks about these when it loads a model; this program made them, so they are trusted.
OWN_TYPES = [
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "training.calibration.CalibratedClassifier",
]

# About the future of the packages; of no use to the person who trains.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="mlflow.*")


@dataclass(frozen=True)
class Trained:
    """A fitted model, why it is of this kind, and what the holdout says of it."""

    model: CalibratedClassifier
    choice: Choice
    features: tuple[str, ...]
    onnx: bytes
    learned: Examples
    holdout: Examples
    scores: np.ndarray
    report: Report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--skip-if-too-few",
        action="store_true",
        help=f"end with exit code {EXIT_SKIPPED}, not 2, if there are too few examples for a model",
    )
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(Settings)
        client = registry.connect(settings)
        try:
            dataset = load_dataset(settings)
        except TooFewExamples as reason:
            if not arguments.skip_if_too_few:
                raise
            print(f"skipped: {reason}", file=sys.stderr)
            sys.exit(EXIT_SKIPPED)
        train(settings, client, dataset)


def train(settings: Settings, client: mlflow.MlflowClient, dataset: Dataset) -> None:
    """Fit, evaluate, register, and promote or say why not.

    Raises:
        UserError: MLflow does not answer, or ONNX and scikit-learn disagree.
    """
    trained = fit_and_evaluate(settings, dataset)
    measured = compare(trained.holdout, trained.scores, registry.serving_now(client, trained.holdout))
    decision = judge(settings, measured, dataset.history_days)

    mlflow.set_experiment(MODEL_NAME)
    algorithm = trained.choice.candidate.name
    with mlflow.start_run(run_name=f"{algorithm} {datetime.now(UTC):%Y-%m-%d %H:%M}") as run:
        log_data(settings, dataset, trained)
        log_choice(trained)
        log_report(trained.report, decision)
        mlflow.log_metrics(baselines(trained.holdout, measured))
        log_plots(trained)
        log_for_serving(settings, trained, run.info.run_id)
        version = log_model(trained)
    registry.promote(client, version, decision)
    print_result(trained.report, measured)
    print_progress(f"version {version} → {decision.stage}: {decision.reason}")
    prune(client, settings.model_retention_days, datetime.now(UTC))


def fit_and_evaluate(settings: Settings, dataset: Dataset) -> Trained:
    """Learn from the training period, and score the holdout.

    Raises:
        UserError: ONNX and scikit-learn disagree about the scores.
    """
    learned, holdout = split_by_time(dataset.examples, dataset.split)
    features = varying_features(learned)
    print_progress(
        f"{settings.training_model}: {len(learned):,} examples with {learned.is_fraud.sum():,} frauds; "
        f"{len(features)} features{_dropped(features)}"
    )
    started = time.monotonic()
    choice = choose(settings, learned, features)
    print_progress(f"chosen in {time.monotonic() - started:.0f} s: {choice.reason}")
    model = CalibratedClassifier.of(fit(settings, choice.candidate, learned, features), choice.correction)
    seconds = time.monotonic() - started
    print_progress(
        f"trained in {seconds:.0f} s; the holdout has {len(holdout):,} payments with {holdout.is_fraud.sum():,} frauds"
    )
    holdout_scores = scores(model, holdout, features)
    report = evaluate(settings, holdout, holdout_scores)
    onnx = export_onnx(model)
    report.metrics["onnx_largest_difference"] = check_parity(
        onnx, select_features(holdout.matrix, features), holdout_scores
    )
    report.metrics["fit_seconds"] = seconds
    trained = Trained(model, choice, features, onnx, learned, holdout, holdout_scores, report)
    report.metrics.update(correction_metrics(settings, trained))
    return trained


def _dropped(features: tuple[str, ...]) -> str:
    """The features that are constant in the training data, in words."""
    dropped = [name for name in FEATURES if name not in features]
    return f", without {', '.join(dropped)}, which have only one value" if dropped else ""


def correction_metrics(settings: Settings, trained: Trained) -> dict[str, float]:
    """The correction, and the error of the prior correction alone, to see what the recalibration is worth."""
    prior = CalibratedClassifier.of(trained.model.classifier, prior_correction(settings.training_fraud_weight))
    without = scores(prior, trained.holdout, trained.features)
    return {
        "calibration_slope": trained.model.slope,
        "calibration_offset": trained.model.offset,
        "calibration_error_of_prior_correction": calibration_error(trained.holdout.is_fraud, without),
    }


def log_data(settings: Settings, dataset: Dataset, trained: Trained) -> None:
    """The parameters, and which data it was, so that the run can be repeated."""
    split = dataset.split
    mlflow.log_params({name: value for name, value in settings.model_dump().items() if name.startswith("training_")})
    mlflow.log_params(
        {
            "data_table": dataset.table,
            "data_version": dataset.version,
            "learn_from": split.start.isoformat(),
            "warm_up": dataset.warm_up,
            "late_history": dataset.late_history,
            "learn_until": split.train_end.isoformat(),
            "evaluate_from": split.holdout_start.isoformat(),
            "evaluate_until": split.end.isoformat(),
            "examples": len(trained.learned),
            "frauds": int(trained.learned.is_fraud.sum()),
            "holdout_examples": len(trained.holdout),
            "holdout_frauds": int(trained.holdout.is_fraud.sum()),
            "features": len(trained.features),
            "constant_features": ", ".join(name for name in FEATURES if name not in trained.features) or "none",
        }
    )


def log_choice(trained: Trained) -> None:
    """Which model it is and why; all that was tried as a table, to compare in MLflow's pages."""
    choice = trained.choice
    mlflow.log_params(
        {"algorithm": choice.candidate.name}
        | {f"algorithm_{name}": value for name, value in choice.candidate.options.items()}
    )
    mlflow.set_tag("choice", choice.reason)
    if choice.trials:
        mlflow.log_table(choice.table(), "trials.json")


def log_report(report: Report, decision: Decision) -> None:
    """The metrics, and the decision in words."""
    mlflow.log_metrics(report.metrics)
    mlflow.set_tag("decision", decision.reason)


def baselines(holdout: Examples, measured: Comparison) -> dict[str, float]:
    """Metrics to compare the model's own with: those of rules-1, of Production if it serves, and the difference."""
    rules = registry.rules_scores(holdout)
    metrics = {
        "rules_1_auc_roc": float(roc_auc_score(holdout.is_fraud, rules)),
        "rules_1_average_precision": float(average_precision_score(holdout.is_fraud, rules)),
        "average_precision_gain": measured.new.average_precision - measured.served.average_precision,
        "average_precision_gain_low": measured.average_precision_gain.low,
        "average_precision_gain_high": measured.average_precision_gain.high,
    }
    if measured.served_by == "Production":
        metrics["production_auc_roc"] = measured.served.auc
        metrics["production_average_precision"] = measured.served.average_precision
    return metrics


def log_plots(trained: Trained) -> None:
    """The figures, under plots/."""
    figures = draw_plots(trained.model.classifier, trained.features, trained.holdout, trained.scores, trained.report)
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"plots/{name}")
        plt.close(figure)


def log_for_serving(settings: Settings, trained: Trained, run_id: str) -> None:
    """Under serving/: the model in ONNX, its features, thresholds and typical values; the reference of drift; and the
    payments that explanations compare with.
    """
    learned = trained.learned
    typical = np.median(select_features(learned.matrix[~learned.is_fraud], trained.features), axis=0)
    described = {
        "features": list(trained.features),
        "thresholds": asdict(trained.report.thresholds),
        "typical": dict(zip(trained.features, map(float, typical), strict=True)),
        "algorithm": trained.choice.candidate.name,
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run_id,
        "base_rate": trained.report.metrics["base_rate"],
    }
    with TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(trained.onnx)
        (Path(folder) / "model.json").write_text(json.dumps(described, indent=1))
        np.save(
            Path(folder) / "background.npy",
            select_features(background(learned, settings.training_seed), trained.features),
        )
        mlflow.log_artifacts(folder, "serving")
    # As text, since log_dict would give each of its 100,000 numbers a line.
    mlflow.log_text(json.dumps(reference(trained.holdout, trained.scores)), "serving/reference.json")


def log_model(trained: Trained) -> str:
    """Register the model itself, to load with scikit-learn; returns its version."""
    model, example = trained.model, select_features(trained.learned.matrix[:5], trained.features)
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict_proba(example)),
        input_example=example,
        pyfunc_predict_fn="predict_proba",
        serialization_format="skops",
        skops_trusted_types=OWN_TYPES,
        # Another program that loads it needs CalibratedClassifier.
        code_paths=[str(Path(__file__).parent)],
        registered_model_name=MODEL_NAME,
    )
    return str(logged.registered_model_version)


def print_result(report: Report, measured: Comparison) -> None:
    """The result, for a person."""
    for name in (
        "auc_roc",
        "average_precision",
        "card_precision_at_100",
        "recall_high",
        "precision_high",
        "calibration_error",
        "mean_score_to_base_rate",
    ):
        print_progress(f"  {name:<24} {report.metrics[name]:.4f}")
    served = measured.served
    print_progress(
        f"  {measured.served_by}, which serves now: AUC {served.auc:.4f}, average precision "
        f"{served.average_precision:.4f}"
    )


if __name__ == "__main__":
    main()

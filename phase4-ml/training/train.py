"""One training run: Gold in, a registered model version out, promoted when the rules allow it.

python -m training.train
"""

import argparse
import json
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
from features import FEATURES
from matplotlib import pyplot as plt
from mlflow.models import infer_signature

from training import registry
from training.data import HISTORY, Examples, Periods, data_version, load_examples, periods, split_by_time
from fraud_common.errors import UserError
from training.estimators import fit, scores
from training.evaluate import Report, evaluate, plots
from training.export import check_parity, export_onnx
from training.reference import reference
from training.settings import EXPERIMENT, MODEL_NAME, Settings, load_settings

# What skops would ask about when it loads a forest, or gradient boosting: they were made right here.
OWN_TYPES = ["sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]

# About the packages' own future, nothing for whoever trains.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="mlflow.*")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.parse_args()
    try:
        train(load_settings())
    except UserError as error:
        sys.exit(f"error: {error}")


def train(settings: Settings) -> None:
    """Train, judge, register, and promote or say why not.

    Raises:
        UserError: a service does not answer, or the data is not enough.
    """
    client = registry.connect(settings)
    version, start, end = data_version(settings)
    split = periods(start, end)
    say(
        f"examples of Delta version {version}: learn {_span(split.start, split.train_end)}, "
        f"judge {_span(split.holdout_start, split.end)}"
    )
    learned, holdout = split_by_time(load_examples(settings, version, split), split)
    say(f"{settings.training_model}: {len(learned):,} examples with {learned.is_fraud.sum():,} frauds")
    model, seconds = timed(fit, settings, learned)
    say(f"trained in {seconds:.0f} s; {len(holdout):,} payments of the holdout with {holdout.is_fraud.sum():,} frauds")
    found = scores(model, holdout)
    report = evaluate(settings, holdout, found)
    onnx = export_onnx(model)
    report.metrics["onnx_largest_difference"] = check_parity(onnx, holdout, found)
    current = registry.production_score(client, holdout)
    decision = registry.decide(settings, report.metrics["auc_roc"], report.metrics["average_precision"], current)

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=f"{settings.training_model} {datetime.now(UTC):%Y-%m-%d %H:%M}") as run:
        log_data(settings, version, split, learned, holdout)
        log_report(report, decision, seconds)
        log_plots(model, holdout, found, report)
        log_for_serving(settings, model, onnx, report, learned, run.info.run_id)
        mlflow.log_dict(reference(holdout, found), "serving/reference.json")
        registered = log_model(model, learned)
    registry.promote(client, registered, decision)
    tell(report, registered, decision)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def timed(call: Any, *arguments: Any) -> tuple[Any, float]:
    """What the call gives, and the seconds that it took."""
    started = time.monotonic()
    return call(*arguments), time.monotonic() - started


def log_data(settings: Settings, version: int, split: Periods, learned: Examples, holdout: Examples) -> None:
    """The parameters, and which data it was, so that the run can be repeated."""
    mlflow.log_params({name: value for name, value in settings.model_dump().items() if name.startswith("training_")})
    mlflow.log_params(
        {
            "data_table": HISTORY.replace("$history", "").replace('"', ""),
            "data_version": version,
            "learn_from": split.start.isoformat(),
            "learn_until": split.train_end.isoformat(),
            "judge_from": split.holdout_start.isoformat(),
            "judge_until": split.end.isoformat(),
            "examples": len(learned),
            "frauds": int(learned.is_fraud.sum()),
            "holdout_examples": len(holdout),
            "holdout_frauds": int(holdout.is_fraud.sum()),
        }
    )


def log_report(report: Report, decision: registry.Decision, seconds: float) -> None:
    """The metrics, and the comparison with Production."""
    mlflow.log_metrics(report.metrics | {"fit_seconds": seconds})
    if decision.production_average_precision is not None:
        mlflow.log_metric("production_average_precision", decision.production_average_precision)
    mlflow.set_tag("decision", decision.reason)


def log_plots(model: Any, holdout: Examples, found: np.ndarray, report: Report) -> None:
    """The figures, under plots/."""
    for name, figure in plots(model, holdout, found, report).items():
        mlflow.log_figure(figure, f"plots/{name}")
        plt.close(figure)


def log_for_serving(
    settings: Settings, model: Any, onnx: bytes, report: Report, learned: Examples, run_id: str
) -> None:
    """What the API takes: the model in ONNX, and beside it its features, thresholds and typical values."""
    typical = np.median(learned.matrix[~learned.is_fraud], axis=0)
    described = {
        "features": list(FEATURES),
        "thresholds": report.thresholds,
        "typical": dict(zip(FEATURES, map(float, typical), strict=True)),
        "algorithm": settings.training_model,
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run_id,
        "base_rate": report.metrics["base_rate"],
    }
    with TemporaryDirectory() as folder:
        (Path(folder) / "model.onnx").write_bytes(onnx)
        (Path(folder) / "model.json").write_text(json.dumps(described, indent=1))
        mlflow.log_artifacts(folder, "serving")


def log_model(model: Any, learned: Examples) -> str:
    """The model itself, which anybody can load with scikit-learn; returns its version in the registry."""
    example = learned.matrix[:5]
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict_proba(example)),
        input_example=example,
        pyfunc_predict_fn="predict_proba",
        serialization_format="skops",
        skops_trusted_types=OWN_TYPES,
        registered_model_name=MODEL_NAME,
    )
    return str(logged.registered_model_version)


def tell(report: Report, version: str, decision: registry.Decision) -> None:
    """The result, for a person."""
    for name in ("auc_roc", "average_precision", "card_precision_at_100", "recall_high", "precision_high"):
        say(f"  {name:<24} {report.metrics[name]:.4f}")
    say(f"version {version} → {decision.stage}: {decision.reason}")


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"


if __name__ == "__main__":
    main()

"""What the model reaches in simulated worlds, without a stack: a history as that of `make up`, and one training run.

python3 phase4-ml/bench/world_quality.py --seeds 42 1 --days 45 --profile cards --users 20000 --permutations 20 --groups

Rows of a table in Markdown, one for each seed; progress is on stderr. The order of payments within a second, and which
legitimate payments are drawn, differ from a stack's, so its model differs a little.
"""

import argparse

import feature_groups
import numpy as np
from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings
from simulated_history import make_dataset, make_history
from sklearn.metrics import roc_auc_score
from training.estimators import Candidate, fit, scores
from training.evaluate import metric_name, scenarios
from training.examples import split_by_time
from training.gold import Dataset, print_progress
from training.settings import Settings
from training.train import Trained, fit_and_evaluate

METRICS = {
    "AUC": "auc_roc",
    "average precision": "average_precision",
    "card precision@100": "card_precision_at_100",
    "precision of tier high": "precision_high",
    "recall of tier high": "recall_high",
    "calibration error": "calibration_error",
    "mean score / fraud rate": "mean_score_to_base_rate",
}


def permuted_auc(settings: Settings, dataset: Dataset, trained: Trained, permutations: int) -> float:
    """The mean AUC of models that learn from permuted labels; 0.5 unless something gives the answer away."""
    learned, holdout = split_by_time(dataset.examples, dataset.split)
    rng = np.random.default_rng(settings.training_seed)
    found = []
    for number in range(1, permutations + 1):
        learned.is_fraud[:] = rng.permutation(learned.is_fraud)
        model = fit(settings, Candidate(trained.choice.candidate.name), learned, trained.features)
        found.append(roc_auc_score(holdout.is_fraud, scores(model, holdout, trained.features)))
        print_progress(f"permutation {number} of {permutations}: AUC {found[-1]:.3f}")
    return float(np.mean(found))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make world-quality", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="of the simulator (default: 42)")
    parser.add_argument("--days", type=int, default=45, help="of the history (default: %(default)s)")
    parser.add_argument("--users", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--profile", choices=["cards", "terminal"], default="cards", help="default: %(default)s")
    parser.add_argument("--permutations", type=int, default=0, help="runs with permuted labels (default: none)")
    parser.add_argument("--groups", action="store_true", help="also what each group of features is worth")
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(Settings)
        header: list[str] = []
        for seed in arguments.seeds:
            print_progress(f"seed {seed}: {arguments.days} days of {arguments.users:,} users")
            dataset = make_dataset(settings, make_history(seed, arguments.users, arguments.days, arguments.profile))
            trained = fit_and_evaluate(settings, dataset)
            metrics = trained.report.metrics
            row = {"seed": str(seed), "model": str(trained.choice.candidate.name)}
            row |= {name: f"{metrics[metric]:.4f}" for name, metric in METRICS.items()}
            row |= {
                name: f"{metrics[f'{metric_name(name)}.average_precision']:.3f}" for name in scenarios(trained.holdout)
            }
            if arguments.permutations:
                row["AUC, labels permuted"] = f"{permuted_auc(settings, dataset, trained, arguments.permutations):.3f}"
            if not header:
                header = list(row)
                print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
            print("| " + " | ".join(row.get(name, "–") for name in header) + " |", flush=True)
            if arguments.groups:
                feature_groups.print_table(settings, dataset)


if __name__ == "__main__":
    main()

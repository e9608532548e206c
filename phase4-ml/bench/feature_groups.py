"""What each group of features is worth: the average precision without it, and with it beside the base alone.

Runs beside a live stack (make feature-quality PARTS=groups), or on a simulated world (make world-quality
FEATURE_GROUPS=1). Takes the training examples as a training run does, fits the model of the settings on each choice of
features, and prints average precision on the holdout, overall and by fraud scenario, as a Markdown table. Groups are
declared in features.py. So that it takes minutes, models learn from fewer
payments than those of training, and so they are a little worse.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from features import FEATURE_GROUPS, FEATURES
from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings
from sklearn.metrics import average_precision_score
from training.estimators import Candidate, fit, scores
from training.evaluate import Scores, scenarios
from training.examples import Examples, split_by_time, varying_features
from training.gold import Dataset, load_dataset, print_progress
from training.settings import AUTO, Settings

# Of training's own, a third; each fit takes a few seconds then.
LEGITIMATE_PER_FRAUD = 10
MOST_LEARNED = 50_000
MOST_LEGITIMATE_IN_HOLDOUT = 60_000
BASE = "base"


@dataclass(frozen=True, slots=True)
class Variant:
    """A choice of features, and what it is called."""

    name: str
    features: tuple[str, ...]


def variants(usable: Sequence[str]) -> list[Variant]:
    """All features, all but one group, the base alone, and the base with one group; of those that are usable."""
    groups = [group for group, names in FEATURE_GROUPS.items() if group != BASE and set(names) & set(usable)]

    def of(name: str, *chosen: str) -> Variant:
        wanted = {feature for group in chosen for feature in FEATURE_GROUPS[group]}
        return Variant(name, tuple(feature for feature in FEATURES if feature in wanted and feature in usable))

    return [
        of("all features", BASE, *groups),
        *(of(f"without {group}", BASE, *(each for each in groups if each != group)) for group in groups),
        of("base alone", BASE),
        *(of(f"base and {group}", BASE, group) for group in groups),
    ]


def thinned(examples: Examples, most: int, chosen_from: np.ndarray, seed: int) -> Examples:
    """The examples, but of those in a mask at most so many, drawn at random, which then represent all of them."""
    candidates = np.flatnonzero(chosen_from)
    if len(candidates) <= most:
        return examples
    drawn = np.random.default_rng(seed).choice(candidates, most, replace=False)
    kept = ~chosen_from
    kept[drawn] = True
    fewer = examples.where(kept)
    fewer.weight[chosen_from[kept]] *= len(candidates) / most
    return fewer


def average_precisions(holdout: Examples, values: Scores) -> list[float]:
    """Of all frauds, then of those of each scenario among all legitimate payments."""
    own = [np.ones(len(holdout), dtype=bool)]
    own += [~holdout.is_fraud | (holdout.fraud_type == scenario) for scenario in scenarios(holdout)]
    return [
        float(average_precision_score(holdout.is_fraud[rows], values[rows], sample_weight=holdout.weight[rows]))
        for rows in own
    ]


def candidate(settings: Settings) -> Candidate:
    """One kind of model for all variants, so that they differ in their features alone: boosting, which learns fast."""
    name = settings.training_model
    return Candidate("hist_gradient_boosting" if name == AUTO else name)


def table(settings: Settings, learned: Examples, holdout: Examples) -> str:
    """Fit and evaluate each variant; one row of the table for each."""
    columns = [f"{name} ({(holdout.fraud_type == name).sum():,})" for name in scenarios(holdout)]
    lines = [
        f"| features | number | all frauds ({holdout.is_fraud.sum():,}) | " + " | ".join(columns) + " |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    chosen = variants(varying_features(learned))
    for number, variant in enumerate(chosen, start=1):
        started = time.monotonic()
        model = fit(settings, candidate(settings), learned, variant.features)
        found = average_precisions(holdout, scores(model, holdout, variant.features))
        lines.append(f"| {variant.name} | {len(variant.features)} | " + " | ".join(f"{ap:.3f}" for ap in found) + " |")
        print_progress(
            f"{number} of {len(chosen)}: {variant.name}, average precision {found[0]:.3f}"
            f" ({time.monotonic() - started:.0f} s)"
        )
    return "\n".join(lines)


def print_table(settings: Settings, dataset: Dataset) -> None:
    """What each group is worth in a dataset: a line on what is measured, and the table."""
    learned, holdout = split_by_time(dataset.examples, dataset.split)
    seed = settings.training_seed
    learned = thinned(learned, MOST_LEARNED, np.ones(len(learned), dtype=bool), seed)
    holdout = thinned(holdout, MOST_LEGITIMATE_IN_HOLDOUT, ~holdout.is_fraud, seed)
    print(
        f"{candidate(settings)} on {len(learned):,} payments with {learned.is_fraud.sum():,} frauds; average "
        f"precision on {len(holdout):,} later ones, weighted to all of the holdout:\n"
    )
    print(table(settings, learned, holdout), flush=True)


def main() -> None:
    """Measure on a live stack, and print the table."""
    with one_line_errors():
        settings = load_settings(Settings, training_legitimate_per_fraud=LEGITIMATE_PER_FRAUD)
        print_table(settings, load_dataset(settings))


if __name__ == "__main__":
    main()

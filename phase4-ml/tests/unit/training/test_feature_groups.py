"""The table of what each group of features is worth."""

import numpy as np
import pytest
from feature_groups import BASE, average_precisions, table, thinned, variants
from features import FEATURE_GROUPS, FEATURES
from training.examples import split_by_time
from training_world import SCENARIOS, SPLIT, UNWEIGHTED, world


def test_every_feature_is_in_one_group() -> None:
    """They are declared beside the features, so a new feature is in the base until it says something else."""
    grouped = [name for names in FEATURE_GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(FEATURES)
    assert {"amount", "transactions_30d", "amount_zscore_30d"} <= set(FEATURE_GROUPS[BASE])
    assert min(map(len, FEATURE_GROUPS.values())) >= 1 and len(FEATURE_GROUPS) > 5


def test_variants_leave_out_and_add_one_group_each() -> None:
    usable = [name for name in FEATURES if name not in FEATURE_GROUPS["devices"] and name != "amount"]
    found = {variant.name: set(variant.features) for variant in variants(usable)}
    assert found["all features"] == set(usable)
    assert found["all features"] - found["without velocity"] == set(FEATURE_GROUPS["velocity"])
    assert found["base and velocity"] - found["base alone"] == set(FEATURE_GROUPS["velocity"])
    assert not any("devices" in name for name in found)
    assert len(found) == 2 + 2 * (len(FEATURE_GROUPS) - 2)


def test_the_group_that_finds_the_frauds_is_worth_most() -> None:
    examples = world(6_000)
    rng = np.random.default_rng(3)
    # Nothing but the users of the device says which payments are frauds.
    examples.matrix[:] = rng.lognormal(3, 1, examples.matrix.shape)
    examples.matrix[:, FEATURES.index("device_users_30d")] += 100 * examples.is_fraud
    learned, holdout = split_by_time(examples, SPLIT)
    settings = UNWEIGHTED.model_copy(update={"training_model": "decision_tree"})
    lines = table(settings, learned, holdout).splitlines()
    assert lines[0].startswith(f"| features | number | all frauds ({holdout.is_fraud.sum()}) | burst (")
    found = {cells[1].strip(): float(cells[3]) for cells in (line.split("|") for line in lines[2:])}
    assert len(found) == 2 * len(FEATURE_GROUPS)
    assert found["all features"] > 0.4 and found["without devices"] < 0.15
    assert found["base alone"] < 0.15 and found["base and devices"] > 0.4


def test_thinned_examples_represent_all() -> None:
    """All frauds stay, and average precision is about what it is with all payments."""
    examples = world(40_000)
    # The score of a payment is one of its inputs, so that it is drawn with it.
    column = FEATURES.index("amount")
    examples.matrix[:, column] = 2 * examples.is_fraud + np.random.default_rng(1).normal(0, 1, len(examples))
    whole = average_precisions(examples, examples.amount)
    frauds, legitimate = examples.is_fraud.sum(), (~examples.is_fraud).sum()
    found = []
    for seed in range(20):
        kept = thinned(examples, 10_000, ~examples.is_fraud, seed)
        assert (kept.is_fraud.sum(), (~kept.is_fraud).sum()) == (frauds, 10_000)
        assert kept.weight[~kept.is_fraud].sum() == pytest.approx(legitimate)
        found.append(average_precisions(kept, kept.amount))
    # A single sample differs by some hundredths.
    assert np.mean(found, axis=0) == pytest.approx(whole, abs=0.015)
    assert len(whole) == 1 + len(SCENARIOS) and whole[0] > whole[1]

"""The part of the training period on which models are tried before the holdout is looked at: its last days."""

import numpy as np

from training.examples import Examples

WEEK = np.timedelta64(7, "D")


def last_days(learned: Examples) -> tuple[Examples, Examples]:
    """The training period before its last week, or before its last third if that is shorter, and the rest.

    There is no gap between the two, and both have the labels that are known when the model is made: what is chosen and
    corrected for the earlier model is used for the whole one, so they must resemble each other.
    """
    start, end = learned.event_time.min(), learned.event_time.max()
    before = learned.event_time < end - min(WEEK, (end - start) / 3)
    return learned.where(before), learned.where(~before)


def thin_out(examples: Examples, legitimate_per_fraud: int, seed: int) -> Examples:
    """All frauds, and so many legitimate payments for each, drawn at random; these represent the others."""
    frauds = int(examples.is_fraud.sum())
    share = legitimate_per_fraud * frauds / max(len(examples) - frauds, 1)
    if share >= 1:
        return examples
    kept = examples.is_fraud | (np.random.default_rng(seed).random(len(examples)) < share)
    fewer = examples.where(kept)
    fewer.weight[~fewer.is_fraud] /= share
    return fewer

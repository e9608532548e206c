"""The reasons of an answer: the features that moved a score the most, and those of rules-1.

A model's effects come from the explainer service; its and the API's answers have this form.
"""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np
from features import FEATURES
from numpy.typing import NDArray

from serving.rules_1 import Rules

MAX_REASONS = 5


class Reason(TypedDict):
    """How much one feature moved a score."""

    name: str
    value: float | None
    effect: float


def largest(values: Mapping[str, float | None], effects: Mapping[str, float]) -> list[Reason]:
    """The features with the largest effects, up or down; without those that have none.

    Args:
        values: of the payment, by feature.
        effects: on the probability of fraud, by feature.
    """
    rounded = {name: round(effect, 6) for name, effect in effects.items()}
    names = sorted(rounded, key=lambda name: -abs(rounded[name]))[:MAX_REASONS]
    return [{"name": name, "value": values[name], "effect": rounded[name]} for name in names if rounded[name]]


def json_values(vector: NDArray[np.float32]) -> dict[str, float | None]:
    """A vector of all FEATURES by name, as the table `predictions` has it: what JSON can't express is None."""
    return {
        name: float(str(value)) if np.isfinite(value) else None for name, value in zip(FEATURES, vector, strict=True)
    }


def explain_rules(values: Mapping[str, float | None]) -> list[Reason]:
    """The reasons of a score by rules-1: each feature in turn is replaced by its typical value and scored again."""
    rules = Rules()
    vector = np.array([np.nan if (value := values[name]) is None else value for name in FEATURES], dtype=np.float32)
    variants = np.tile(vector, (len(FEATURES), 1))
    np.fill_diagonal(variants, rules.typical)
    score, *without = rules.probabilities(np.vstack([vector, variants]))
    return largest(values, {name: score - other for name, other in zip(FEATURES, without, strict=True)})

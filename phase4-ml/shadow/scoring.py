"""The Staging model's scores of payments, from the features that are stored with their predictions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import orjson
from features import FEATURES
from serving.model_store import Model
from serving.predictor import risk_tier

from shadow.store import Payment, ShadowScore


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a chunk, and how many payments have none, by reason."""

    scores: list[ShadowScore]
    left_out: dict[str, int]


def score(model: Model, payments: Sequence[Payment]) -> Scored:
    """Score payments, except those whose stored features lack one that the model needs.

    That is a payment which a release with other features has scored. A feature that is null was not a number for the
    Production model either.
    """
    needed = needed_features(model)
    known, rows = [], []
    for payment in payments:
        features = orjson.loads(payment.features)
        if needed <= features.keys():
            known.append(payment)
            # What the model does not take has no effect.
            rows.append([features.get(name) for name in FEATURES])
    answers = model.probabilities(np.array(rows, dtype=np.float32)) if rows else []
    scores = [
        ShadowScore(payment, round(answer, 6), risk_tier(answer, model))
        for payment, answer in zip(known, answers, strict=True)
        if isfinite(answer)
    ]
    return Scored(scores, {"feature": len(payments) - len(known), "score": len(known) - len(scores)})


def needed_features(model: Model) -> set[str]:
    """The names of the features that a model takes."""
    return set(FEATURES) if model.columns is None else {FEATURES[column] for column in model.columns}

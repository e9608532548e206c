"""Generated payments for the tests of training: four weeks of them, or a few on given days."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from features import FEATURES
from training.examples import Examples, as_datetime64, periods
from training.settings import Settings

MODELS = ("random_forest", "extra_trees", "hist_gradient_boosting", "logistic_regression", "decision_tree")
SCENARIOS = ("burst", "far_away", "spree")
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 28
SPLIT = periods(START, START + timedelta(days=DAYS))
# Frauds weigh as much as their share: probabilities are then those of the population.
UNWEIGHTED = Settings(training_model="random_forest", training_jobs=1, training_fraud_weight=1.0)


def moment(days: float) -> np.datetime64:
    """So many days after START."""
    return as_datetime64(START + timedelta(days=days))


def world(rows: int, seed: int = 1) -> Examples:
    """Payments of four weeks; each scenario shows in three features of its own, so no two rules find all frauds."""
    random = np.random.default_rng(seed)
    matrix = random.lognormal(3, 1, (rows, len(FEATURES))).astype(np.float32)
    kind = np.where(random.random(rows) < 0.05, random.integers(0, len(SCENARIOS), rows), -1)
    for scenario in range(len(SCENARIOS)):
        own = np.flatnonzero(kind == scenario)
        for feature in (3 * scenario + 1, 3 * scenario + 2, 3 * scenario + 3):
            matrix[own, feature] *= random.lognormal(2.2, 0.5, len(own)).astype(np.float32)
    is_fraud = kind >= 0
    day = random.uniform(0, DAYS, rows)
    event_time = moment(0) + (day * 86_400_000).astype("timedelta64[ms]")
    known_at = event_time + (random.uniform(0, 5, rows) * 86_400_000).astype("timedelta64[ms]")
    return Examples(
        matrix=matrix,
        is_fraud=is_fraud,
        event_time=event_time,
        known_at=np.where(is_fraud, known_at, np.datetime64("NaT", "ms")),
        user_id=np.array([f"U{i}" for i in random.integers(0, 2_000, rows)], dtype=object),
        fraud_type=np.array([SCENARIOS[k] if k >= 0 else "" for k in kind], dtype=object),
        weight=np.ones(rows),
    )


def few(days: list[float], **columns: list[Any]) -> Examples:
    """Examples on these days: legitimate payments of 10, unless the columns say otherwise."""
    n = len(days)
    matrix = np.zeros((n, len(FEATURES)), dtype=np.float32)
    matrix[:, FEATURES.index("amount")] = columns.pop("amount", [10.0] * n)
    values: dict[str, Any] = {
        "is_fraud": [False] * n,
        "known_at": [np.datetime64("NaT", "ms")] * n,
        "user_id": [f"U{i}" for i in range(n)],
        "fraud_type": [""] * n,
        "weight": [1.0] * n,
        **columns,
    }
    return Examples(
        matrix=matrix,
        event_time=np.array([moment(day) for day in days]),
        is_fraud=np.array(values["is_fraud"], dtype=bool),
        known_at=np.array(values["known_at"], dtype="datetime64[ms]"),
        user_id=np.array(values["user_id"], dtype=object),
        fraud_type=np.array(values["fraud_type"], dtype=object),
        weight=np.array(values["weight"], dtype=float),
    )

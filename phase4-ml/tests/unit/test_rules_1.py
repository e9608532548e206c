"""The score by rules, tiers, and explanations."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from features import FEATURES, MerchantFeatures, Payment, UserFeatures
from serving.predictor import risk_tier
from serving.reasons import explain_rules, json_values
from serving.rules_1 import HIGH, MEDIUM, Rules

NOON = datetime(2024, 11, 29, 12, tzinfo=UTC)
NIGHT = NOON.replace(hour=3)
QUIET = UserFeatures(transactions_30d=50, amount_mean_30d=40.0, amount_stddev_30d=20.0, transactions_1d=1)
UNKNOWN, RISKY = MerchantFeatures(), MerchantFeatures(merchant_category_risk=2, merchant_fraud_rate_30d=0.05)


def test_the_score_rises_with_every_rule() -> None:
    rows = [
        QUIET.to_array(Payment(40.0, False, NOON), UNKNOWN),
        QUIET.to_array(Payment(40.0, False, NIGHT), UNKNOWN),
        QUIET.to_array(Payment(40.0, True, NIGHT), UNKNOWN),
        QUIET.to_array(Payment(250.0, True, NIGHT), UNKNOWN),
        QUIET.to_array(Payment(5000.0, True, NIGHT), UNKNOWN),
        QUIET.to_array(Payment(5000.0, True, NIGHT), RISKY),
    ]
    scores = Rules().probabilities(np.stack(rows))
    assert scores[0] == pytest.approx(0.01)
    assert scores == sorted(scores) and len(set(scores)) == len(scores) and scores[-1] < 1


@pytest.mark.parametrize(
    ("score", "tier"), [(0.0, "low"), (0.1999, "low"), (MEDIUM, "medium"), (0.4999, "medium"), (HIGH, "high")]
)
def test_a_threshold_belongs_to_the_tier_above_it(score: float, tier: str) -> None:
    assert risk_tier(score, Rules()) == tier


def test_an_explanation_is_the_difference_from_the_typical_value() -> None:
    rules = Rules()
    vector = QUIET.to_array(Payment(5000.0, False, NIGHT), UNKNOWN)
    (score,) = rules.probabilities(vector.reshape(1, -1))
    reasons: dict[str, Any] = {reason["name"]: reason for reason in explain_rules(json_values(vector))}
    assert reasons["amount"]["value"] == 5000
    typical = vector.copy()
    typical[FEATURES.index("amount")] = rules.typical[FEATURES.index("amount")]
    (without,) = rules.probabilities(typical.reshape(1, -1))
    assert reasons["amount"]["effect"] == pytest.approx(score - without, abs=1e-6)
    effects = [abs(reason["effect"]) for reason in reasons.values()]
    assert effects == sorted(effects, reverse=True) and effects[-1] > 0

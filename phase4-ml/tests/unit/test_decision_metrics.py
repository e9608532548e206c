"""What is counted of decisions: answers, rules by name, errors, and what the hold-out costs."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from features import FEATURES
from prometheus_client import REGISTRY
from rules.decide import Policy
from rules.ruleset import InForce
from rules.shares import in_holdout
from ruleset_world import entry, ruleset
from serving import metrics
from serving.predictor import PaymentFeatures, Scored, _count, decided
from serving.rules_1 import Rules
from serving.schemas import PaymentRequest

NOW = datetime.now(UTC)
POLICY = Policy()
VECTOR = np.zeros(len(FEATURES), dtype=np.float32)


def scored(in_force: InForce, policy: Policy = POLICY, score: float = 0.1, **payment: Any) -> Scored:
    request = PaymentRequest(**{"transaction_id": "t", "user_id": "u1", "merchant_id": "m", "amount": 200.0} | payment)
    features = PaymentFeatures(NOW, VECTOR, "stream", 0.5, "stream")
    return decided(request, features, VECTOR.tolist(), Rules(), score, in_force, policy, NOW)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Changes:
    """How much each metric has grown since this was made."""

    def __init__(self, *metric: tuple[str, dict[str, str]]) -> None:
        self._before = [(name, labels, value(name, **labels)) for name, labels in metric]

    def __call__(self) -> list[float]:
        return [round(value(name, **labels) - before, 6) for name, labels, before in self._before]


def test_a_batch_counts_as_many_as_its_payments() -> None:
    in_force = InForce(ruleset(entry(1, name="counted"), entry(2, name="shadowed", state="shadow")))
    metrics.RULES.bind(in_force.ruleset.rules)
    assert REGISTRY.get_sample_value("fraud_rule_errors_total", {"rule": "counted"}) is not None
    changes = Changes(
        ("fraud_decisions_total", {"decision": "challenge", "queue": "no"}),
        ("fraud_decisions_total", {"decision": "approve", "queue": "no"}),
        ("fraud_rule_hits_total", {"rule": "counted", "answer": "challenge", "state": "live"}),
        ("fraud_rule_hits_total", {"rule": "shadowed", "answer": "challenge", "state": "shadow"}),
        ("fraud_predictions_total", {"risk_tier": "low"}),
        ("fraud_feature_age_seconds_count", {"source": "stream"}),
    )
    _count([scored(in_force), scored(in_force), scored(in_force, amount=5.0)])
    assert changes() == [2, 1, 2, 2, 3, 3]


def test_a_rule_that_raises_is_counted_by_name() -> None:
    rules = ruleset(entry(1, name="raising"))
    (rule,) = rules.rules
    payment = scored(InForce())
    payment.decision = replace(payment.decision, threw=[rule])
    changes = Changes(("fraud_rule_errors_total", {"rule": "raising"}))
    _count([payment])
    assert changes() == [1]


def test_the_holdout_says_what_it_costs() -> None:
    policy = Policy(holdout=0.2, holdout_max_amount=1000)
    user = next(each for each in map(str, range(1000)) if in_holdout(0.2, f"{NOW:%Y-%m}", each))
    rules = InForce(ruleset(entry(1, answer="decline")))
    changes = Changes(
        ("fraud_holdout_payments_total", {}),
        ("fraud_holdout_amount_total", {}),
        ("fraud_holdout_expected_loss_total", {}),
        ("fraud_decisions_total", {"decision": "approve", "queue": "no"}),
    )
    _count([scored(rules, policy, 0.1, user_id=user, amount=amount) for amount in (200.0, 300.0, 2000.0)])
    assert changes() == [2, 500.0, 50.0, 2]


def test_names_of_rules_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = metrics.RuleCounters()
    monkeypatch.setattr(metrics, "MAX_RULE_NAMES", 2)
    changes = Changes(("fraud_rule_hits_total", {"rule": "other", "answer": "challenge", "state": "live"}))
    for name in ("first-name", "second-name", "third-name", "fourth-name", "first-name"):
        for counter in counters.of(scored(InForce(ruleset(entry(1, name=name)))).decision):
            counter.inc()
    assert changes() == [2]
    assert value("fraud_rule_hits_total", rule="first-name", answer="challenge", state="live") == 2
    assert REGISTRY.get_sample_value("fraud_rule_errors_total", {"rule": "third-name"}) is None

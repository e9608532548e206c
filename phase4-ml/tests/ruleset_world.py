"""Payments, rules and rulesets for the tests of decisions."""

from datetime import UTC, datetime
from typing import Any

from features import FEATURES
from rules.facts import RulePayment, facts_of
from rules.ruleset import Facts, Ruleset

NOW = datetime(2026, 3, 4, 11, 22, 33, tzinfo=UTC)


def entry(rule_id: int = 1, **changes: Any) -> dict[str, Any]:
    """A live rule in the document of a ruleset: amounts over 100 are challenged."""
    return {
        "rule_id": rule_id,
        "version": 1,
        "name": f"rule-{rule_id}",
        "lane": "rule",
        "state": "live",
        "when": "amount > 100",
        "answer": "challenge",
        "queue": False,
        "rollout_percent": 100,
        "expires_at": None,
        "expected_hits_per_day": None,
    } | changes


def ruleset(*entries: dict[str, Any], ruleset_id: int = 7) -> Ruleset:
    """A compiled ruleset."""
    return Ruleset.of(ruleset_id, {"rules": list(entries)})


def facts(tier: str = "low", unknown: tuple[Any, ...] = (), **changes: Any) -> Facts:
    """The facts of a payment of 200 euros by user u1, all of whose features are 0."""
    payment = {"user_id": "u1", "merchant_id": "m1", "amount": 200.0, "is_international": False, "event_time": NOW}
    return facts_of(RulePayment(**payment | changes), [0.0] * len(FEATURES), 0.01, tier, unknown)

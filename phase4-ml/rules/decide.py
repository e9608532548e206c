"""The decision on a payment: the strictest of the model and the live rules, unless an exception lowers it. Pure.

A decision has two axes: the answer at the till, and whether somebody looks at the payment afterwards.

1. The model: low approves, medium challenges, high challenges and queues (by setting: declines and queues).
2. Live rules that fire, of the lane `rule`: the strictest answer counts, and a payment is queued if one of them or the
   model says so.
3. Live exceptions that fire, each until it expires, lower the answer to theirs, and decide about the queue. They do
   not touch a rule that declines by a list, and never make an answer stricter.
4. The hold-out lets a small share of users through, up to an amount, so that it stays measurable what rules and model
   are right about; except where a rule declines by a list. The payment is still queued.

A rule in shadow has no effect, and neither has a live one for a user outside its rollout; both are recorded in
`shadow`. A rule that raises counts as unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rules.catalogue import CATALOGUE
from rules.ruleset import Answer, Facts, InForce, Rule
from rules.shares import in_holdout, in_rollout

_NAMES = list(CATALOGUE)
_USER, _TIER = _NAMES.index("user_id"), _NAMES.index("risk_tier")
_AMOUNT, _AMOUNT_REF = _NAMES.index("amount"), _NAMES.index("amount_ref")
STRICTNESS: dict[str, int] = {"approve": 0, "challenge": 1, "decline": 2}


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide beside the rules."""

    # Tier high is declined, not challenged.
    decline_high: bool = False
    # The share of users that is held out, and the largest amount that is let through because of it.
    holdout: float = 0.0
    holdout_max_amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, and whether somebody looks at the payment afterwards."""

    answer: Answer
    queue: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a payment, and why. Payments of which there is nothing special share one."""

    answer: Answer
    queue: bool
    # The names of the live rules that fired.
    rules: list[str]
    # The hold-out lets it through.
    held_out: bool
    # Then, in the reference currency if its rate is known, else as it is; 0 for other payments.
    held_out_amount: float
    # As the column rule_results has it.
    results: dict[str, Any]
    # By rule that fired: live, shadow or suppressed; and those that raised. For the metrics.
    hits: Sequence[tuple[Rule, str]] = field(default=())
    threw: Sequence[Rule] = field(default=())


_MODEL: dict[bool, dict[str, Verdict]] = {
    decline: {
        "low": Verdict("approve", False),
        "medium": Verdict("challenge", False),
        "high": Verdict("decline" if decline else "challenge", True),
    }
    for decline in (False, True)
}


# What happens to most payments.
_NOTHING = Decision(
    "approve", False, [], False, 0.0, {"fired": [], "shadow": [], "threw": [], "suppressed": [], "model": "approve"}
)


def decide(facts: Facts, in_force: InForce, policy: Policy, at: datetime) -> Decision:
    """The decision on a payment.

    Args:
        facts: of the payment (rules/facts.py).
        at: when it is decided; it says which lists, suppressions, exceptions and hold-out are in force.
    """
    model = _MODEL[policy.decline_high][str(facts[_TIER])]
    fired, threw = in_force.ruleset.evaluate(facts, in_force.lists, at)
    if not fired and not threw and model.answer == "approve":
        return _NOTHING
    user_id, amount = str(facts[_USER]), _amount(facts)
    rules = in_force.ruleset.rules
    hits = [(rules[position], state) for position in fired if (state := _state(rules[position], in_force, user_id, at))]
    live = [rule for rule, state in hits if state == "live"]
    verdict, final = combine(model, live)
    held_out = (
        policy.holdout > 0
        and verdict.answer != "approve"
        and not final
        and amount <= policy.holdout_max_amount
        and in_holdout(policy.holdout, f"{at:%Y-%m}", user_id)
    )
    results: dict[str, Any] = {
        "fired": [rule.key for rule in live],
        "shadow": [rule.key for rule, state in hits if state == "shadow"],
        "threw": [rules[position].key for position in threw],
        "suppressed": [rule.key for rule, state in hits if state == "suppressed"],
        "model": model.answer,
    }
    if held_out:
        results["would"] = verdict.answer
    return Decision(
        "approve" if held_out else verdict.answer,
        verdict.queue,
        [rule.name for rule in live],
        held_out,
        amount if held_out else 0.0,
        results,
        hits,
        [rules[position] for position in threw],
    )


def combine(model: Verdict, live: Sequence[Rule]) -> tuple[Verdict, bool]:
    """The verdict of a model and the live rules and exceptions that fire.

    Returns:
        The verdict, and whether it is final: nothing lets the payment through.
    """
    strictest: Sequence[Rule | Verdict] = [model, *(rule for rule in live if rule.lane == "rule")]
    answer, queue = _strictest(strictest), any(each.queue for each in strictest)
    by_list = [rule for rule in live if rule.lane == "rule" and rule.declines_by_list]
    exceptions = [rule for rule in live if rule.lane == "exception"]
    if exceptions:
        lowest = min(exceptions, key=lambda rule: STRICTNESS[rule.answer]).answer
        if STRICTNESS[lowest] <= STRICTNESS[answer]:
            lowered = lowest != answer
            answer, queue = lowest, any(rule.queue for rule in exceptions) and (queue or lowered)
        if by_list:
            answer, queue = _strictest([*by_list]), queue or any(rule.queue for rule in by_list)
    return Verdict(answer, queue), bool(by_list)


def _amount(facts: Facts) -> float:
    in_reference = facts[_AMOUNT_REF]
    return float((facts[_AMOUNT] if in_reference is None else in_reference) or 0)


def _strictest(verdicts: Sequence[Rule | Verdict]) -> Answer:
    return max(verdicts, key=lambda each: STRICTNESS[each.answer]).answer


def _state(rule: Rule, in_force: InForce, user_id: str, at: datetime) -> str | None:
    """Whether a rule that fires counts: live, shadow or suppressed; None once it has expired."""
    if rule.expires_at is not None and rule.expires_at <= at:
        return None
    if rule.state == "shadow":
        return "shadow"
    if in_force.suppresses(rule, user_id, at):
        return "suppressed"
    return "live" if in_rollout(rule.rule_id, rule.rollout_percent, user_id) else "shadow"

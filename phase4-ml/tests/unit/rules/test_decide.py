"""How model, rules, exceptions, suppressions, rollout and hold-out become one decision."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rules.decide import Policy, Verdict, combine, decide
from rules.lists import ListValues
from rules.ruleset import InForce, Rule, Ruleset
from rules.shares import in_holdout, in_rollout
from ruleset_world import NOW, entry, facts, ruleset

POLICY = Policy()
DAY = timedelta(days=1)
EXCEPTION = {"lane": "exception", "answer": "approve", "expires_at": (NOW + DAY).isoformat()}
BLOCKED = {"when": "in_list(user_id, 'blocked')", "answer": "decline"}


def outcome(*entries: dict[str, Any], tier: str = "low", policy: Policy = POLICY, **state: Any) -> tuple[str, bool]:
    decision = decide(facts(tier), InForce(ruleset(*entries), **state), policy, NOW)
    return decision.answer, decision.queue


@pytest.mark.parametrize(
    ("tier", "decline_high", "expected"),
    [
        ("low", False, ("approve", False)),
        ("medium", False, ("challenge", False)),
        ("high", False, ("challenge", True)),
        ("low", True, ("approve", False)),
        ("high", True, ("decline", True)),
    ],
)
def test_the_model_alone(tier: str, decline_high: bool, expected: tuple[str, bool]) -> None:
    policy = Policy(decline_high=decline_high)
    assert outcome(tier=tier, policy=policy) == expected
    decision = decide(facts(tier), InForce(), policy, NOW)
    assert (decision.answer, decision.queue) == expected
    assert decision.results == {"fired": [], "shadow": [], "threw": [], "suppressed": [], "model": expected[0]}


@pytest.mark.parametrize(
    ("tier", "rules", "expected"),
    [
        ("low", [{}], ("challenge", False)),
        ("low", [{"queue": True}], ("challenge", True)),
        ("low", [{"answer": "approve", "queue": True}], ("approve", True)),
        ("low", [{}, {"answer": "decline"}], ("decline", False)),
        ("high", [{}], ("challenge", True)),
        ("high", [{"answer": "approve"}], ("challenge", True)),
        ("low", [{"when": "amount > 1000", "answer": "decline"}], ("approve", False)),
        ("low", [{"state": "shadow", "answer": "decline"}], ("approve", False)),
        ("low", [{"expires_at": NOW.isoformat()}], ("approve", False)),
        ("low", [{"expires_at": (NOW + DAY).isoformat()}], ("challenge", False)),
    ],
)
def test_the_strictest_of_model_and_live_rules(
    tier: str, rules: list[dict[str, Any]], expected: tuple[str, bool]
) -> None:
    assert outcome(*(entry(number, **rule) for number, rule in enumerate(rules)), tier=tier) == expected


@pytest.mark.parametrize(
    ("tier", "rules", "expected"),
    [
        ("high", [EXCEPTION], ("approve", False)),
        ("low", [{"answer": "decline", "queue": True}, EXCEPTION], ("approve", False)),
        ("low", [{"answer": "decline"}, EXCEPTION | {"answer": "challenge", "queue": True}], ("challenge", True)),
        # It lowers, and never raises.
        ("low", [EXCEPTION | {"answer": "challenge", "queue": True}], ("approve", False)),
        # Of two the lower answer.
        ("low", [{"answer": "decline"}, EXCEPTION | {"answer": "challenge"}, EXCEPTION], ("approve", False)),
        ("low", [{"answer": "decline"}, EXCEPTION | {"expires_at": NOW.isoformat()}], ("decline", False)),
        ("low", [{"answer": "decline"}, EXCEPTION | {"state": "shadow"}], ("decline", False)),
        # But not what a list declines.
        ("low", [BLOCKED, EXCEPTION], ("decline", False)),
        ("low", [BLOCKED | {"queue": True}, EXCEPTION], ("decline", True)),
        ("low", [BLOCKED | {"answer": "challenge"}, EXCEPTION], ("approve", False)),
    ],
)
def test_an_exception_lowers_the_answer(tier: str, rules: list[dict[str, Any]], expected: tuple[str, bool]) -> None:
    lists = {"blocked": ListValues([("u1", NOW - DAY, None)])}
    entries = [entry(number, **rule) for number, rule in enumerate(rules)]
    assert outcome(*entries, tier=tier, lists=lists) == expected
    # Whatever their order is.
    assert outcome(*reversed(entries), tier=tier, lists=lists) == expected


def test_what_fired_is_recorded_by_rule_and_version() -> None:
    entries = [
        entry(1, version=3),
        entry(2, state="shadow"),
        entry(3, when="amount > 1000"),
        entry(4, **EXCEPTION),
        entry(5),
    ]
    suppressed = {5: ListValues([("u1", NOW - DAY, NOW + DAY)])}
    decision = decide(facts("high"), InForce(ruleset(*entries), {}, suppressed), POLICY, NOW)
    assert decision.rules == ["rule-1", "rule-4"]
    assert decision.results == {
        "fired": [[1, 3], [4, 1]],
        "shadow": [[2, 1]],
        "threw": [],
        "suppressed": [[5, 1]],
        "model": "challenge",
    }
    assert [(rule.rule_id, state) for rule, state in decision.hits] == [
        (1, "live"),
        (2, "shadow"),
        (4, "live"),
        (5, "suppressed"),
    ]


def test_a_suppression_is_of_one_rule_one_user_and_a_time() -> None:
    entries = entry(1), entry(2, answer="decline")
    for users, expected in (
        ([("u1", NOW - DAY, NOW + DAY)], "challenge"),
        ([("u1", NOW - DAY, NOW)], "decline"),
        ([("u1", NOW + DAY, NOW + 2 * DAY)], "decline"),
        ([("u2", NOW - DAY, NOW + DAY)], "decline"),
    ):
        assert outcome(*entries, suppressions={2: ListValues(users)})[0] == expected


def test_a_rule_that_raises_counts_as_unknown_and_is_named() -> None:
    rules = ruleset(entry(1), entry(2, answer="decline"))

    def broken(*_: Any) -> tuple[list[int], list[int]]:
        return [0], [1]

    decision = decide(facts(), InForce(replace(rules, evaluate=broken)), POLICY, NOW)
    assert (decision.answer, decision.results["threw"]) == ("challenge", [[2, 1]])
    assert [rule.name for rule in decision.threw] == ["rule-2"]


def test_a_list_that_does_not_exist_is_unknown() -> None:
    assert outcome(entry(1, when="not in_list(user_id, 'nothing')", answer="decline")) == ("approve", False)
    lists = {"nothing": ListValues()}
    assert outcome(entry(1, when="not in_list(user_id, 'nothing')", answer="decline"), lists=lists)[0] == "decline"


def test_a_rollout_applies_to_its_share_of_users_always_the_same_ones() -> None:
    users = [f"user-{number}" for number in range(20_000)]
    chosen = {percent: {user for user in users if in_rollout(17, percent, user)} for percent in (1, 10, 50, 100)}
    for percent, inside in chosen.items():
        assert len(inside) == pytest.approx(len(users) * percent / 100, rel=0.15)
    # Raising it keeps those that are in it, and another rule has others.
    assert chosen[1] < chosen[10] < chosen[50] < chosen[100] == set(users)
    assert {user for user in users if in_rollout(18, 10, user)} != chosen[10]
    rules = InForce(ruleset(entry(17, rollout_percent=10)))
    for user in users[:200]:
        decision = decide(facts(user_id=user), rules, POLICY, NOW)
        inside = user in chosen[10]
        assert decision.answer == ("challenge" if inside else "approve")
        assert decision.results["fired" if inside else "shadow"] == [[17, 1]]


def test_the_number_of_a_user_is_that_of_trino() -> None:
    """select from_base(to_hex(substr(sha256(to_utf8('17:u1')), 1, 4)), 16)"""
    from hashlib import sha256

    from rules.shares import number

    assert number("17:u1") == int(sha256(b"17:u1").hexdigest()[:8], 16)


def held_out_user(share: float) -> str:
    return next(user for user in map(str, range(10_000)) if in_holdout(share, f"{NOW:%Y-%m}", user))


def test_the_holdout_lets_its_users_through_up_to_an_amount() -> None:
    policy = Policy(holdout=0.01, holdout_max_amount=500)
    user = held_out_user(0.01)
    rules = InForce(ruleset(entry(1, answer="decline", queue=True)))
    decision = decide(facts(user_id=user), rules, policy, NOW)
    assert (decision.answer, decision.queue, decision.held_out) == ("approve", True, True)
    assert decision.held_out_amount == 200.0
    assert decision.results["would"] == "decline" and decision.results["fired"] == [[1, 1]]
    for changed in (
        decide(facts(user_id=user, amount=501.0), rules, policy, NOW),
        decide(facts(user_id=user), rules, Policy(), NOW),
        decide(facts(user_id="u1"), rules, policy, NOW),
    ):
        assert (changed.answer, changed.held_out) == ("decline", False)
        assert "would" not in changed.results
    # What is approved anyway is not held out.
    assert not decide(facts(user_id=user), InForce(), policy, NOW).held_out


def test_the_holdout_does_not_let_blocked_users_through() -> None:
    user = held_out_user(0.01)
    in_force = InForce(ruleset(entry(1, **BLOCKED)), {"blocked": ListValues([(user, NOW - DAY, None)])})
    decision = decide(facts(user_id=user), in_force, Policy(holdout=0.01, holdout_max_amount=500), NOW)
    assert (decision.answer, decision.held_out) == ("decline", False)


def test_the_holdout_has_its_share_and_other_users_each_month() -> None:
    users = [f"user-{number}" for number in range(50_000)]
    march, april = ({user for user in users if in_holdout(0.02, month, user)} for month in ("2026-03", "2026-04"))
    assert len(march) == pytest.approx(1000, rel=0.15)
    assert len(march & april) < 100


@pytest.mark.parametrize(("currency", "amount"), [("EUR", 200.0), ("XXX", 200.0), (None, 200.0), ("JPY", None)])
def test_the_amount_is_that_in_the_reference_currency_where_it_is_known(currency: str, amount: float | None) -> None:
    policy, rules = Policy(holdout=0.2, holdout_max_amount=500), InForce(ruleset(entry(1)))
    decision = decide(facts(user_id=held_out_user(0.2), currency=currency), rules, policy, NOW)
    assert decision.held_out
    assert decision.held_out_amount == amount if amount else 0 < decision.held_out_amount < 5


def test_an_exception_of_the_same_answer_decides_about_the_queue() -> None:
    rule = Rule(1, 1, "rule", "rule", "live", "approve", queue=True)
    exception = Rule(2, 1, "exception", "exception", "live", "approve", queue=False)
    assert combine(Verdict("approve", False), [rule, exception]) == (Verdict("approve", False), False)


def test_no_ruleset_decides_by_the_model() -> None:
    assert Ruleset().ruleset_id is None
    assert decide(facts("medium"), InForce(), POLICY, NOW).answer == "challenge"

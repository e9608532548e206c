"""What the generated Python says of facts, NULL among them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from keyword import iskeyword
from typing import Any

import pytest
from rules.catalogue import CATALOGUE
from rules.language import parse
from rules.to_python import compile_rules, source

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Values:
    def __init__(self, *values: str) -> None:
        self._values = values

    def has(self, value: str, at: datetime) -> bool:
        assert at == AT
        return value in self._values


class Broken:
    def has(self, value: str, at: datetime) -> bool:
        raise OSError("no list today")


def fires(rule: str, lists: Mapping[str, Any] | None = None, **facts: Any) -> bool:
    evaluate = compile_rules([parse(rule)])
    fired, threw = evaluate([facts.get(name) for name in CATALOGUE], lists or {}, AT)
    assert not threw
    return fired == [0]


def truth(rule: str, **facts: Any) -> bool | None:
    """True, false, or None if it is unknown."""
    is_true, is_false = fires(rule, **facts), fires(f"not ({rule})", **facts)
    assert not (is_true and is_false)
    return True if is_true else False if is_false else None


TRUTHS = [
    ("amount > 5", {"amount": 6.0}, True),
    ("amount > 5", {"amount": 5.0}, False),
    ("amount > 5", {}, None),
    ("amount = amount_ref", {"amount": 5.0}, None),
    ("amount <> 5", {"amount": 5.0}, False),
    ("amount between 1 and 5", {"amount": 5.0}, True),
    ("amount between 1 and amount_ref", {"amount": 0.5}, False),
    ("amount between 1 and amount_ref", {"amount": 3.0}, None),
    ("amount between amount_ref and 5", {"amount": 6.0}, False),
    ("amount between amount_ref and 5", {}, None),
    ("currency in ('EUR', 'USD')", {"currency": "USD"}, True),
    ("currency in ('EUR', 'USD')", {"currency": "GBP"}, False),
    ("currency in ('EUR', 'USD')", {}, None),
    ("currency not in ('EUR')", {}, None),
    ("amount in (0)", {"amount": -0.0}, True),
    ("amount_ref is null", {}, True),
    ("amount_ref is null", {"amount_ref": 1.0}, False),
    ("amount + amount_ref is null", {"amount": 1.0}, True),
    ("coalesce(amount_ref, amount) is null", {"amount": 1.0}, False),
    ("coalesce(amount_ref, amount) is null", {}, True),
    ("5 is null", {}, False),
    ("coalesce(amount_ref, 7) > 6", {}, True),
    ("coalesce(amount_ref, amount) > 6", {"amount": 7.0}, True),
    ("coalesce(amount_ref, amount) > 6", {"amount": 7.0, "amount_ref": 1.0}, False),
    ("coalesce(amount_ref, amount) > 6", {}, None),
    ("coalesce(is_night, false)", {}, False),
    ("coalesce(is_night, is_web)", {}, None),
    ("coalesce(1, amount) = 1", {}, True),
    ("abs(amount) = 2", {"amount": -2.0}, True),
    ("- amount = 2", {"amount": -2.0}, True),
    ("-(amount - 2 * 3) = 2", {"amount": 4.0}, True),
    ("amount * 1e308 > 1e308 * 1e308", {"amount": 1e308}, False),
    ("amount * 1e308 - amount * 1e308 > 0", {"amount": 1e308}, False),
    ("is_night", {}, None),
    ("is_night = is_web", {"is_night": True}, None),
    ("is_night <> is_web", {"is_night": True, "is_web": False}, True),
    ("true", {}, True),
    ("false or is_night", {}, None),
    ("in_list(user_id, 'x')", {}, None),
]


@pytest.mark.parametrize(("rule", "facts", "expected"), TRUTHS)
def test_three_values(rule: str, facts: dict[str, Any], expected: bool | None) -> None:
    assert truth(rule, **facts) is expected


@pytest.mark.parametrize("values", list(product([True, False, None], repeat=2)))
def test_logic_is_that_of_sql(values: tuple[bool | None, bool | None]) -> None:
    facts = {"is_night": values[0], "is_web": values[1]}
    both = False if False in values else None if None in values else True
    either = True if True in values else None if None in values else False
    assert truth("is_night and is_web", **facts) is both
    assert truth("is_night or is_web", **facts) is either


def test_lists() -> None:
    lists = {"blocked-users": Values("u1", "u2")}
    rule = "in_list(user_id, 'blocked-users')"
    assert fires(rule, lists, user_id="u1")
    assert not fires(rule, lists, user_id="u3")
    assert fires(f"not {rule}", lists, user_id="u3")
    assert not fires(f"not {rule}", lists)
    # A list that is missing is unknown.
    assert not fires(rule, {}, user_id="u1")
    assert not fires(f"not {rule}", {}, user_id="u1")


def test_a_rule_that_raises_leaves_the_others_alone() -> None:
    rules = ["amount > 5", "in_list(user_id, 'broken')", "amount > 6", "currency = 'EUR'", "amount_ref > 5"]
    facts = {"amount": 7.0, "user_id": "u1", "currency": "EUR", "amount_ref": "not a number"}
    evaluate = compile_rules([parse(rule) for rule in rules])
    assert evaluate([facts.get(name) for name in CATALOGUE], {"broken": Broken()}, AT) == ([0, 2, 3], [1, 4])


def test_no_rules() -> None:
    assert compile_rules([])([None] * len(CATALOGUE), {}, AT) == ([], [])


def test_names_are_variables_of_python() -> None:
    own = {"evaluate", "facts", "lists", "at", "fired", "threw", "abs", "Exception"}
    for name in CATALOGUE:
        assert name.isidentifier() and not iskeyword(name) and not name.startswith("_") and name not in own


def test_texts_stay_texts() -> None:
    text = "'''); import os; os.abort() #\\"
    rule = parse("currency = '" + text.replace("'", "''") + "'")
    evaluate = compile_rules([rule])
    facts = [text if name == "currency" else None for name in CATALOGUE]
    assert evaluate(facts, {}, AT) == ([0], [])
    assert repr(text) in source([rule])


def test_nothing_grows_faster_than_the_rule() -> None:
    nested = "amount_ref"
    for _ in range(20):
        nested = f"coalesce({nested} + 1, amount)"
    for rule in (f"{nested} > 5", "not (" * 15 + "amount_ref between 1 and amount" + ")" * 15, f"({nested}) is null"):
        expression = parse(rule)
        assert len(source([expression])) < 20 * len(rule) + 1000
        compile_rules([expression])

"""From the tree of sqlglot to the tree of a rule: the whitelist, the types, and the places of what is wrong."""

import re
from math import isfinite
from typing import Any, Literal, NoReturn

from sqlglot import exp

from rules.catalogue import CATALOGUE, Type
from rules.errors import RuleError
from rules.tokens import Token
from rules.tree import (
    Absolute,
    All,
    AnyOf,
    Arithmetic,
    Between,
    Coalesce,
    Comparator,
    Comparison,
    Condition,
    Constant,
    InList,
    IsNull,
    Named,
    Negative,
    Not,
    OneOf,
    Value,
)

LIST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

_COMPARISONS: dict[type[exp.Expression], Comparator] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_ARITHMETIC: dict[type[exp.Expression], Literal["+", "-", "*"]] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
# Every class that may be in a tree, with the arguments that may be set. Subclasses don't count.
_ARGUMENTS: dict[type[exp.Expression], frozenset[str]] = {
    **dict.fromkeys((exp.And, exp.Or, *_COMPARISONS, *_ARITHMETIC, exp.Is), frozenset({"this", "expression"})),
    **dict.fromkeys((exp.Paren, exp.Not, exp.Neg, exp.Abs, exp.Column, exp.Boolean), frozenset({"this"})),
    **dict.fromkeys((exp.In, exp.Coalesce, exp.Anonymous), frozenset({"this", "expressions"})),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Identifier: frozenset({"this"}),
    exp.Null: frozenset(),
}
_ARTICLES: dict[Type, str] = {"number": "a number", "boolean": "a boolean", "text": "a text"}


class Reader:
    """Reads one tree of sqlglot.

    The leaves of the tree must be those of the text, in their order: it means just what is written. This also says at
    which place of the text a part of the tree is.

    Attributes:
        names: of the catalogue, as far as they have been read.
        lists: pairs of a name and a list, likewise.
    """

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.names: set[str] = set()
        self.lists: set[tuple[str, str]] = set()
        self._text = text
        self._leaves = [token for token in tokens if token.is_leaf]
        self._read = 0

    def read(self, node: exp.Expression) -> Condition:
        """The whole tree as a condition."""
        tree = self._condition(node)
        if self._read < len(self._leaves):
            self._fail("this can't be read here")
        return tree

    def _condition(self, node: exp.Expression) -> Condition:
        self._check(node)
        kind = type(node)
        if kind is exp.Paren:
            return self._condition(node.this)
        if kind is exp.And or kind is exp.Or:
            return self._joined(All if kind is exp.And else AnyOf, node)
        if kind is exp.Not:
            return Not(self._condition(node.this))
        if kind in _COMPARISONS:
            return self._comparison(_COMPARISONS[kind], node)
        if kind is exp.Between:
            return self._between(node)
        if kind is exp.In:
            return self._one_of(node)
        if kind is exp.Is:
            return self._is_null(node)
        if kind is exp.Anonymous:
            return self._in_list(node)
        at = self._read
        value = self._value(node)
        if value.type != "boolean":
            shown = _shown(value)
            self._fail(f"{shown} is {_ARTICLES[value.type]}, where a condition is needed, such as {shown} = …", at)
        return value

    def _joined(self, kind: type[All] | type[AnyOf], node: exp.Expression) -> Condition:
        conditions: list[Condition] = []
        for part in (node.this, node.expression):
            condition = self._condition(part)
            conditions.extend(condition.conditions if isinstance(condition, kind) else [condition])
        return kind(tuple(conditions))

    def _comparison(self, operator: Comparator, node: exp.Expression) -> Comparison:
        at = self._read
        left, right = self._value(node.this), self._value(node.expression)
        self._same_type(left, right, at)
        if left.type != "number" and operator not in ("=", "<>"):
            self._fail(f"{_ARTICLES[left.type]} can be compared by = and <> only, not by {operator}", at)
        return Comparison(operator, left, right)

    def _between(self, node: exp.Expression) -> Between:
        at = self._read
        value = self._value(node.this)
        between = Between(value, self._value(node.args["low"]), self._value(node.args["high"]))
        if {value.type, between.low.type, between.high.type} != {"number"}:
            self._fail("between compares numbers only", at)
        return between

    def _one_of(self, node: exp.Expression) -> OneOf:
        at = self._read
        value = self._value(node.this)
        if value.type == "boolean":
            self._fail("a boolean can't be compared by in; write it as a condition, or with not before it", at)
        constants = []
        for item in node.expressions:
            at = self._read
            constant = self._value(item)
            if not isinstance(constant, Constant):
                self._fail("in compares with constants only, such as currency in ('EUR', 'USD')", at)
            self._same_type(value, constant, at)
            constants.append(constant)
        if not constants:
            self._fail("in needs constants in parentheses, such as currency in ('EUR', 'USD')", at)
        return OneOf(value, tuple(constants))

    def _is_null(self, node: exp.Expression) -> IsNull:
        value = self._value(node.this)
        if type(node.expression) is not exp.Null:
            self._fail("is can be followed by null or not null only; for true, write the condition itself")
        self._leaf("null")
        return IsNull(value)

    def _in_list(self, node: exp.Expression) -> InList:
        arguments = node.expressions
        if str(node.this).lower() != "in_list" or len(arguments) != 2:
            self._fail("in_list has two arguments: in_list(user_id, 'blocked-users')")
        at = self._read
        name, list_at, list_name = self._value(arguments[0]), self._read, self._value(arguments[1])
        if not (isinstance(name, Named) and name.type == "text"):
            self._fail("the first argument of in_list is a name of a text, such as user_id", at)
        if not (isinstance(list_name, Constant) and list_name.type == "text"):
            self._fail("the second argument of in_list is a list's name in quotes, such as 'blocked-users'", list_at)
        called = str(list_name.value)
        if not LIST_NAME.fullmatch(called):
            self._fail("the name of a list has at most 64 lower-case letters, digits and hyphens", list_at)
        self.lists.add((name.name, called))
        return InList(name.name, called)

    def _value(self, node: exp.Expression) -> Value:
        self._check(node)
        kind = type(node)
        if kind is exp.Paren:
            return self._value(node.this)
        if kind is exp.Column:
            return self._named(node)
        if kind is exp.Literal:
            return self._constant(node)
        if kind is exp.Boolean:
            value = bool(node.this)
            self._leaf("true" if value else "false")
            return Constant(value, "boolean")
        if kind is exp.Neg:
            number = self._number(node.this)
            if isinstance(number, Constant):
                return Constant(-float(number.value), "number")
            return Negative(number)
        if kind in _ARITHMETIC:
            return Arithmetic(_ARITHMETIC[kind], self._number(node.this), self._number(node.expression))
        if kind is exp.Abs:
            return Absolute(self._number(node.this))
        if kind is exp.Coalesce:
            return self._coalesce(node)
        if kind is exp.Null:
            return self._fail("null can follow is or is not only: nothing equals NULL, so write amount_ref is null")
        return self._fail("a value is needed here, and this is a condition; join conditions by and, or, not")

    def _named(self, node: exp.Expression) -> Named:
        name = str(node.this.this).lower() if type(node.this) is exp.Identifier else ""
        self._check(node.this)
        self._leaf(name)
        if name not in CATALOGUE:
            self._fail("this is no name that rules know")
        self.names.add(name)
        return Named(name, CATALOGUE[name].type)

    def _constant(self, node: exp.Expression) -> Constant:
        at = self._read
        self._leaf(str(node.this))
        if node.args.get("is_string"):
            return Constant(str(node.this), "text")
        number = float(node.this)
        if not isfinite(number):
            self._fail("this number is too large; the largest one is about 1.8e308", at)
        if number == 0 and re.match(r"[0.]*[1-9]", str(node.this)):
            self._fail("this number is too small; write 0", at)
        return Constant(number, "number")

    def _coalesce(self, node: exp.Expression) -> Coalesce:
        at = self._read
        values = [self._value(node.this)]
        for other in node.expressions:
            other_at = self._read
            values.append(self._value(other))
            self._same_type(values[0], values[-1], other_at)
        if len(values) < 2:
            self._fail("coalesce has at least two arguments: coalesce(amount_ref, amount)", at)
        return Coalesce(tuple(values), values[0].type)

    def _number(self, node: exp.Expression) -> Value:
        at = self._read
        value = self._value(node)
        if value.type != "number":
            self._fail(f"a number is needed here, and {_shown(value)} is {_ARTICLES[value.type]}", at)
        return value

    def _same_type(self, left: Value, right: Value, at: int) -> None:
        if left.type == right.type:
            return
        hint = ""
        for value in (left, right):
            if isinstance(value, Named) and value.type == "boolean":
                hint = f"; write {value.name}, or not {value.name}"
        self._fail(
            f"{_shown(left)} is {_ARTICLES[left.type]} and {_shown(right)} is {_ARTICLES[right.type]}, "
            f"which can't be compared{hint}",
            at,
        )

    def _check(self, node: Any) -> None:
        """The class of the node and its arguments are on the whitelist."""
        allowed = _ARGUMENTS.get(type(node))
        if allowed is None:
            self._fail("this is not part of the rule language")
        given = {name for name, value in node.args.items() if value not in (None, False, [])}
        # False is the value of a boolean and of `is_string`.
        if given - allowed or node.comments:
            self._fail("this is not part of the rule language in this form")

    def _leaf(self, value: str) -> None:
        """The next leaf of the text, which must be this one."""
        if self._read >= len(self._leaves) or self._leaves[self._read].value != value:
            self._fail("this can't be read here")
        self._read += 1

    def _fail(self, message: str, leaf: int | None = None) -> NoReturn:
        """Refuse the rule at a leaf; at the next one by default."""
        number = min(self._read if leaf is None else leaf, len(self._leaves) - 1)
        raise RuleError(message, self._text, self._leaves[number].offset if self._leaves else 0)


def _shown(value: Value) -> str:
    if isinstance(value, Named):
        return value.name
    if isinstance(value, Constant):
        if value.type == "text":
            text = str(value.value)
            return f"'{text if len(text) <= 30 else text[:30] + '…'}'"
        return str(value.value).lower() if value.type == "boolean" else f"{value.value:g}"
    return "this"

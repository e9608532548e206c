"""The thresholds of a backtest's curve: a rule as it would be with other values of one of its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from rules.language import Expression
from rules.tree import Comparison, Constant, Named

SCORE = "fraud_probability"
SCORES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FACTORS = (0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 5.0)
# A whole number up to this is varied by steps of one.
SMALL = 10


@dataclass(frozen=True, slots=True)
class Variant:
    """The rule with another threshold, or with its own."""

    threshold: float
    expression: Expression


@dataclass(frozen=True, slots=True)
class Curve:
    """What is varied: the threshold that a name is compared with, from the lowest to the highest."""

    name: str
    current: float
    variants: tuple[Variant, ...]


def curve_of(expression: Expression) -> Curve | None:
    """The curve over the threshold of the score, else over the first number that a name is compared with.

    None if the rule compares no name with a number.
    """
    found = [(each, pair) for each in _comparisons(expression.tree) if (pair := _name_and_number(each))]
    if not found:
        return None
    comparison, (named, constant) = next((each for each in found if each[1][0].name == SCORE), found[0])
    current = float(constant.value)
    variants = []
    for threshold in _thresholds(named.name, current):
        other = replace(constant, value=threshold)
        varied = replace(comparison, left=other) if comparison.left is constant else replace(comparison, right=other)
        variants.append(Variant(threshold, replace(expression, tree=_replaced(expression.tree, comparison, varied))))
    return Curve(named.name, current, tuple(variants))


def _thresholds(name: str, current: float) -> list[float]:
    if name == SCORE:
        others = set(SCORES)
    elif current == int(current) and abs(current) <= SMALL:
        others = {current + step for step in range(-3, 5) if current < 0 or current + step >= 0}
    else:
        others = {float(f"{current * factor:.3g}") for factor in FACTORS}
    return sorted(others | {current})


def _name_and_number(comparison: Comparison) -> tuple[Named, Constant] | None:
    """The two sides, where the comparison has an order; `=` has no curve."""
    if comparison.operator in ("=", "<>"):
        return None
    match comparison.left, comparison.right:
        case (Named() as named, Constant(type="number") as constant) | (
            Constant(type="number") as constant,
            Named() as named,
        ):
            return named, constant
    return None


def _comparisons(node: Any) -> Iterator[Comparison]:
    """Those of a tree, from left to right."""
    if isinstance(node, Comparison):
        yield node
    elif isinstance(node, tuple):
        for each in node:
            yield from _comparisons(each)
    elif is_dataclass(node):
        for field in fields(node):
            yield from _comparisons(getattr(node, field.name))


def _replaced(node: Any, old: Any, new: Any) -> Any:
    """The tree with another node in the place of one of its own."""
    if node is old:
        return new
    if isinstance(node, tuple):
        return tuple(_replaced(each, old, new) for each in node)
    if is_dataclass(node) and not isinstance(node, type):
        return replace(node, **{field.name: _replaced(getattr(node, field.name), old, new) for field in fields(node)})
    return node

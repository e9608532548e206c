"""Rules as one Python function: what serving evaluates for each payment.

For each rule, Python that says whether its condition is true is generated from its tree. Negation is pushed down to the
comparisons, by a pair of functions for "is true" and "is false", so that logic with three values takes no calls and no
values of its own: `a > b` is true if `a is not None and b is not None and a > b`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, assert_never

from rules.catalogue import CATALOGUE
from rules.language import Expression
from rules.tree import (
    Absolute,
    All,
    AnyOf,
    Arithmetic,
    Between,
    Coalesce,
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

type Fact = float | str | bool | None

_POSITIONS = {name: position for position, name in enumerate(CATALOGUE)}
_PYTHON = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class ListOfValues(Protocol):
    """A list that rules look values up in."""

    def has(self, value: str, at: datetime) -> bool:
        """Whether the value was in the list at a time."""
        ...


class Evaluate(Protocol):
    """The rules of a ruleset, compiled."""

    def __call__(
        self, facts: Sequence[Fact], lists: Mapping[str, ListOfValues], at: datetime
    ) -> tuple[list[int], list[int]]:
        """Which rules fire for a payment.

        Args:
            facts: values in the order of the catalogue, as `facts.facts_of` has them.
            lists: by name. A list that is missing is unknown, and so is whether a value is in it.
            at: when the payment takes place.

        Returns:
            The positions of the rules whose condition is true, and of those that raised an exception.
        """
        ...


def compile_rules(expressions: Sequence[Expression]) -> Evaluate:
    """One function for all rules. Each is guarded by itself: one that raises an exception leaves the others alone."""
    namespace: dict[str, Any] = {}
    exec(
        compile(source(expressions), "<rules>", "exec"),
        {"__builtins__": {"abs": abs, "Exception": Exception}},
        namespace,
    )
    evaluate: Evaluate = namespace["evaluate"]
    return evaluate


def source(expressions: Sequence[Expression]) -> str:
    """The Python of `compile_rules`."""
    names = {name for expression in expressions for name in expression.names}
    looked_up = sorted({pair for expression in expressions for pair in expression.lists})
    lists = sorted({list_name for _, list_name in looked_up})
    lines = ["def evaluate(facts, lists, at):", "    fired = []", "    threw = []"]
    lines += [f"    {name} = facts[{_POSITIONS[name]}]" for name in CATALOGUE if name in names]
    lines += [f"    {_list_variable(name)} = lists.get({name!r})" for name in lists]
    lines += [f"    {_found_variable(*pair)} = None" for pair in looked_up]
    for position, expression in enumerate(expressions):
        lines += [
            "    try:",
            f"        if {_is_true(expression.tree)}:",
            f"            fired.append({position})",
            "    except Exception:",
            f"        threw.append({position})",
        ]
    return "\n".join([*lines, "    return fired, threw", ""])


def _list_variable(list_name: str) -> str:
    # No name of the catalogue begins with an underscore, and no list's name has one.
    return f"_list_{list_name.replace('-', '_')}"


def _found_variable(name: str, list_name: str) -> str:
    return f"_found_{name}{_list_variable(list_name)}"


def _found(node: InList) -> str:
    """Python for whether a value is on a list, which is looked up once, however many rules ask."""
    found = _found_variable(node.name, node.list_name)
    looked_up = f"{_list_variable(node.list_name)}.has({node.name}, at)"
    return f"({found} if {found} is not None else ({found} := {looked_up}))"


def _is_true(node: Condition) -> str:
    """Python that is true where the condition is true, and false where it is false or unknown."""
    match node:
        case Comparison(operator=operator, left=left, right=right):
            return _and(*_known(left, right), f"{_value(left)} {_PYTHON[operator]} {_value(right)}")
        case Between(value=value, low=low, high=high):
            return _and(*_known(value, low, high), f"{_value(low)} <= {_value(value)} <= {_value(high)}")
        case OneOf(value=value, constants=constants):
            return _and(*_known(value), f"{_value(value)} in {_constants(constants)}")
        case IsNull(value=value):
            return _or(*(f"not ({known})" for known in _known(value)))
        case InList(name=name, list_name=list_name):
            return f"({name} is not None and {_list_variable(list_name)} is not None and {_found(node)})"
        case Not(condition=condition):
            return _is_false(condition)
        case All(conditions=conditions):
            return _and(*map(_is_true, conditions))
        case AnyOf(conditions=conditions):
            return _or(*map(_is_true, conditions))
        case _:
            return _and(*_known(node), _value(node))


def _is_false(node: Condition) -> str:
    """Python that is true where the condition is false."""
    match node:
        case Comparison(operator=operator, left=left, right=right):
            # Not the opposite operator: with NaN, both would be false.
            return _and(*_known(left, right), f"not {_value(left)} {_PYTHON[operator]} {_value(right)}")
        case Between(value=value, low=low, high=high):
            # One bound suffices if the other one is unknown.
            return _or(
                _and(*_known(value, low), f"not {_value(value)} >= {_value(low)}"),
                _and(*_known(value, high), f"not {_value(value)} <= {_value(high)}"),
            )
        case OneOf(value=value, constants=constants):
            return _and(*_known(value), f"{_value(value)} not in {_constants(constants)}")
        case IsNull(value=value):
            return _and(*_known(value))
        case InList(name=name, list_name=list_name):
            return f"({name} is not None and {_list_variable(list_name)} is not None and not {_found(node)})"
        case Not(condition=condition):
            return _is_true(condition)
        case All(conditions=conditions):
            return _or(*map(_is_false, conditions))
        case AnyOf(conditions=conditions):
            return _and(*map(_is_false, conditions))
        case _:
            return _and(*_known(node), f"not {_value(node)}")


def _known(*values: Value) -> list[str]:
    """Conditions in Python that together say that none of the values is NULL; none if none of them can be."""
    conditions: dict[str, None] = {}
    for value in values:
        match value:
            case Named(name=name):
                conditions[f"{name} is not None"] = None
            case Constant():
                pass
            case Arithmetic(left=left, right=right):
                conditions.update(dict.fromkeys(_known(left, right)))
            case Negative(value=inner) | Absolute(value=inner):
                conditions.update(dict.fromkeys(_known(inner)))
            case Coalesce(values=alternatives):
                each = [_known(alternative) for alternative in alternatives]
                if all(each):
                    conditions[_or(*(_and(*known) for known in each))] = None
            case _:
                assert_never(value)
    return list(conditions)


def _value(node: Value) -> str:
    """Python for a value that is known not to be NULL."""
    match node:
        case Named(name=name):
            return name
        case Constant(value=value):
            return repr(value)
        case Arithmetic(operator=operator, left=left, right=right):
            return f"({_value(left)} {operator} {_value(right)})"
        case Negative(value=value):
            return f"(- {_value(value)})"
        case Absolute(value=value):
            return f"abs({_value(value)})"
        case Coalesce(values=values):
            choices = []
            for value in values:
                known = _known(value)
                if not known:
                    break
                choices.append(f"{_value(value)} if {_and(*known)} else ")
            else:
                # The last one is the only one left: that all of them are NULL was ruled out before.
                value, choices = values[-1], choices[:-1]
            return f"({''.join(choices)}{_value(value)})"
        case _:
            assert_never(node)


def _constants(constants: Sequence[Constant]) -> str:
    return f"{{{', '.join(_value(constant) for constant in constants)}}}"


def _and(*conditions: str) -> str:
    if len(conditions) < 2:
        return conditions[0] if conditions else "True"
    return f"({' and '.join(conditions)})"


def _or(*conditions: str) -> str:
    if len(conditions) < 2:
        return conditions[0] if conditions else "False"
    return f"({' or '.join(conditions)})"

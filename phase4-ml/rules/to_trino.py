"""A rule as a predicate of Trino, over a relation whose columns are the names of the catalogue.

Nothing of it is the author's text: names are those of the catalogue, numbers are written again as literals of double,
texts as quoted literals.
"""

from typing import assert_never

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
)


def predicate(expression: Expression) -> str:
    """The rule's condition as SQL of Trino; NULL where it is unknown.

    The relation has a column for each of `expression.names`, of type double, boolean or varchar and NULL where the
    value is unknown, and a boolean column `list_column(name, list_name)` for each of `expression.lists`.
    """
    return _sql(expression.tree)


def list_column(name: str, list_name: str) -> str:
    """The column, as a quoted identifier, which says whether the value of a name is in a list as of the payment.

    NULL if the value is, or if there is no such list.
    """
    return f'"{name} in {list_name}"'


def literal(value: float | str | bool) -> str:
    """A constant of type double, varchar or boolean."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    # With an exponent it is a double; without one, Trino reads a decimal.
    shown = repr(value)
    return shown if "e" in shown else f"{shown}e0"


def _sql(node: Condition) -> str:
    match node:
        case Named(name=name):
            return name
        case Constant(value=value):
            return literal(value)
        case Arithmetic(operator=operator, left=left, right=right):
            return f"({_sql(left)} {operator} {_sql(right)})"
        case Negative(value=inner):
            return f"(- {_sql(inner)})"
        case Absolute(value=inner):
            return f"abs({_sql(inner)})"
        case Coalesce(values=values):
            return f"coalesce({', '.join(map(_sql, values))})"
        case Comparison(operator=comparator, left=left, right=right):
            return f"({_sql(left)} {comparator} {_sql(right)})"
        case Between(value=inner, low=low, high=high):
            return f"({_sql(inner)} between {_sql(low)} and {_sql(high)})"
        case OneOf(value=inner, constants=constants):
            return f"({_sql(inner)} in ({', '.join(map(_sql, constants))}))"
        case IsNull(value=inner):
            return f"({_sql(inner)} is null)"
        case InList(name=name, list_name=list_name):
            return list_column(name, list_name)
        case Not(condition=condition):
            return f"(not {_sql(condition)})"
        case All(conditions=conditions):
            return f"({' and '.join(map(_sql, conditions))})"
        case AnyOf(conditions=conditions):
            return f"({' or '.join(map(_sql, conditions))})"
        case _:
            assert_never(node)

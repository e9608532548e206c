"""A rule as a tree: what `language` makes of a text, and `to_python` and `to_trino` read.

Values may be NULL. Conditions are true, false or unknown (NULL), as in SQL. A boolean value is a condition, but a
condition is no value: this keeps what is generated from a rule proportional to the rule.
"""

from dataclasses import dataclass
from typing import Literal

from rules.catalogue import Type

type Value = Named | Constant | Arithmetic | Negative | Absolute | Coalesce
type Condition = Value | Comparison | Between | OneOf | IsNull | InList | Not | All | AnyOf
type Comparator = Literal["=", "<>", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Named:
    """The value of a name of the catalogue."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Constant:
    """A number (a finite float), a text, true or false."""

    value: float | str | bool
    type: Type


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Doubles, as IEEE 754 has them: an overflow is infinite and no error."""

    operator: Literal["+", "-", "*"]
    left: Value
    right: Value
    type: Type = "number"


@dataclass(frozen=True, slots=True)
class Negative:
    """Minus a number."""

    value: Value
    type: Type = "number"


@dataclass(frozen=True, slots=True)
class Absolute:
    """A number without its sign."""

    value: Value
    type: Type = "number"


@dataclass(frozen=True, slots=True)
class Coalesce:
    """The first of at least two values, all of the same type, that is not NULL."""

    values: tuple[Value, ...]
    type: Type


@dataclass(frozen=True, slots=True)
class Comparison:
    """Texts and booleans are compared by = and <> alone."""

    operator: Comparator
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Between:
    """low <= value and value <= high."""

    value: Value
    low: Value
    high: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """A number or text is among constants of its type."""

    value: Value
    constants: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """A value is NULL; this is never unknown."""

    value: Value


@dataclass(frozen=True, slots=True)
class InList:
    """A text is in a list when the payment takes place; unknown if the text is NULL, or if there is no such list."""

    name: str
    list_name: str


@dataclass(frozen=True, slots=True)
class Not:
    """Unknown if the condition is."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """`and`: false if one of the conditions is, else unknown if one of them is."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`or`: true if one of the conditions is, else unknown if one of them is."""

    conditions: tuple[Condition, ...]

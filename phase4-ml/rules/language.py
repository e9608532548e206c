"""The rule language: a SQL expression that is true for the payments which a rule means.

    is_new_device_30d and amount > 500 and fraud_probability > 0.05

- names: those of `catalogue.CATALOGUE`; upper and lower case are the same
- numbers 500, 0.05, 1e3; texts in single quotes, a quote in them is written twice; true, false
- and, or, not; = <> (or !=) < <= > >=; between … and …; in (constants); is null, is not null
- + - *, abs(x), coalesce(x, y, …); no division, so that no rule fails at a zero
- in_list(user_id, 'blocked-users'): the value of a text name is in a list when the payment takes place

Texts and booleans are compared by = and <>, and only values of the same type with each other. Logic has three values,
as in SQL: a comparison with NULL is unknown, and a rule fires where it is true, not where it is unknown.

sqlglot parses, and only what is on a whitelist of its node classes and of their arguments becomes a tree of our own
(`tree`). From that tree come the Python of serving and the predicate for Trino; the text itself is never passed on.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from rules.catalogue import CATALOGUE
from rules.errors import RuleError
from rules.reader import Reader
from rules.tokens import tokenize
from rules.tree import Condition

__all__ = ["MAX_NODES", "Expression", "RuleError", "parse"]

# Names, constants, operators and functions of one rule.
MAX_NODES = 100


@dataclass(frozen=True, slots=True)
class Expression:
    """A rule's condition that has been checked.

    text   as its author wrote it
    tree   what it means
    names  that it reads, in the order of the catalogue; those of its lists included
    lists  pairs of a name and the list that its value is looked up in, in alphabetical order
    """

    text: str
    tree: Condition
    names: tuple[str, ...]
    lists: tuple[tuple[str, str], ...]


def parse(text: str) -> Expression:
    """Read and check a rule's condition.

    Raises:
        RuleError: the text is no condition of the rule language; it says what is wrong, and where.
    """
    tokens = tokenize(text)
    parsed = _parsed(text)
    nodes = sum(not isinstance(node, exp.Paren | exp.Identifier) for node in parsed.walk())
    if nodes > MAX_NODES:
        raise RuleError(f"the rule has {nodes} parts; at most {MAX_NODES} are allowed", text, 0)
    reader = Reader(text, tokens)
    tree = reader.read(parsed)
    names = tuple(name for name in CATALOGUE if name in reader.names)
    return Expression(text, tree, names, tuple(sorted(reader.lists)))


def _parsed(text: str) -> exp.Expression:
    """The tree of sqlglot."""
    # The deepest text that is allowed needs most of Python's recursion limit. In a thread of its own it has all of it,
    # so that a rule is read in the same way from wherever this is called.
    with ThreadPoolExecutor(max_workers=1) as thread:
        try:
            return thread.submit(sqlglot.parse_one, text, dialect="trino", into=exp.Condition).result()
        except sqlglot.errors.ParseError as error:
            raise _explained(text, error) from None


def _explained(text: str, error: sqlglot.errors.ParseError) -> RuleError:
    found = error.errors[0] if error.errors else {}
    offset = min(len(found.get("start_context") or ""), len(text))
    if "Between" in (found.get("description") or ""):
        return RuleError("between needs two values: amount between 100 and 500", text, offset)
    word = found.get("highlight")
    what = f"can't be read at {word}" if word else "can't be read"
    return RuleError(f"the rule {what}; something before it is missing or misplaced", text, offset)

"""Random rules over random payments: the generated Python and a real Trino say the same of each pair.

The payments are made from whole numbers by the same formula in SQL and in Python, so Trino needs no table. Every name
has values that are NULL, at the edges of doubles, or equal to those of other names.

In the test image of the API, with TRINO_HOST set:  python3 phase4-ml/tests/rule_parity.py --rows 100000 --rules 200
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from rule_expressions import EDGES, WORDS, random_rule
from rules.catalogue import CATALOGUE
from rules.language import Expression, RuleError, parse
from rules.to_python import compile_rules
from rules.to_trino import list_column, literal, predicate
from rules.tree import Not
from trino_tools import query

# More than there are payments, and prime, so that no two columns repeat together.
MODULUS = 1_000_003
# Payments of one row of Trino's answer; `sequence` makes at most 10,000 numbers.
CHUNK = 1_000
RULES_A_QUERY = 20
AT = datetime(2026, 1, 1, tzinfo=UTC)
# "missing" is a list of rules, too, and is unknown on both sides.
LISTS = {"blocked": frozenset({"u1", "EUR", "", "it's"}), "trusted-merchants": frozenset({"Größe", "low", "d1"})}

type Query = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one name: payment i has the one at position (i * step + first) % MODULUS % len(values)."""

    values: tuple[float | str | bool | None, ...]
    step: int
    first: int

    def value(self, number: int) -> float | str | bool | None:
        return self.values[(number * self.step + self.first) % MODULUS % len(self.values)]

    def sql(self, sql_type: str) -> str:
        values = ", ".join("null" if value is None else literal(value) for value in self.values)
        position = f"((i * {self.step} + {self.first}) % {MODULUS}) % {len(self.values)}"
        return f"element_at(cast(array[{values}] as array({sql_type})), 1 + {position})"


@dataclass(frozen=True, slots=True)
class Values:
    """A list without times."""

    values: frozenset[str]

    def has(self, value: str, at: datetime) -> bool:
        assert at == AT
        return value in self.values


@dataclass(slots=True)
class Outcome:
    """How often the rules were true, false and unknown, and where the two disagree."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys("tfn", 0))
    disagreements: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"{sum(counts.values()):,} pairs: {counts['t']:,} true, {counts['f']:,} false, {counts['n']:,} unknown; "
            f"{len(self.disagreements)} disagreements"
        )


def random_columns(random: Random) -> dict[str, Column]:
    """Values for every name of the catalogue, of which a sixth are NULL."""
    return {
        name: Column(_pool(random, CATALOGUE[name].type), random.randrange(1, MODULUS), random.randrange(MODULUS))
        for name in CATALOGUE
    }


def random_expressions(random: Random, count: int) -> list[Expression]:
    """Rules of different sizes that are within the limits."""
    expressions: list[Expression] = []
    while len(expressions) < count:
        try:
            expressions.append(parse(random_rule(random, random.randint(1, 12))))
        except RuleError as error:
            # Too many parts; anything else is a fault of the generator.
            if "at most" not in error.message:
                raise
    return expressions


def compare(
    columns: dict[str, Column], expressions: Sequence[Expression], rows: int, query: Query, *, filters: bool
) -> Outcome:
    """Evaluate every rule for every payment on both sides.

    Args:
        columns: the values of the names.
        expressions: the rules.
        rows: how many payments, a multiple of CHUNK.
        query: runs a statement on Trino.
        filters: also use each rule in a WHERE, which takes twice as long as all else.
    """
    outcome = Outcome()
    expected = _of_python(columns, expressions, rows)
    for start in range(0, len(expressions), RULES_A_QUERY):
        several = expressions[start : start + RULES_A_QUERY]
        found = _of_trino(columns, several, rows, query)
        for expression, python, trino in zip(several, expected[start:], found, strict=False):
            _note(outcome, columns, expression, python, trino)
        if filters:
            _check_filters(outcome, columns, several, expected[start:], rows, query)
    return outcome


def _pool(random: Random, of_type: str) -> tuple[float | str | bool | None, ...]:
    values: list[float | str | bool | None]
    if of_type == "boolean":
        values = [True, False]
    elif of_type == "text":
        values = [*WORDS]
    else:
        values = [*EDGES, *(-edge for edge in EDGES), 1.7976931348623157e308, 9007199254740994.0, -1.0]
        values += [round(random.uniform(0, 1000), 2) for _ in range(20)] + [random.uniform(-3, 3) for _ in range(10)]
    values += [None] * max(1, len(values) // 5)
    random.shuffle(values)
    return tuple(values)


def _of_python(columns: dict[str, Column], expressions: Sequence[Expression], rows: int) -> list[bytearray]:
    """For each rule, a letter for each payment: true, false or n for NULL."""
    evaluate = compile_rules(
        [each for expression in expressions for each in (expression, replace(expression, tree=Not(expression.tree)))]
    )
    lists = {name: Values(values) for name, values in LISTS.items()}
    letters = [bytearray(b"n" * rows) for _ in expressions]
    names = _names(expressions)
    read = {position: columns[name] for position, name in enumerate(CATALOGUE) if name in names}
    facts: list[float | str | bool | None] = [None] * len(CATALOGUE)
    for number in range(rows):
        for position, column in read.items():
            facts[position] = column.value(number)
        fired, threw = evaluate(facts, lists, AT)
        assert not threw
        for position in fired:
            letters[position // 2][number] = b"tf"[position % 2]
    return letters


def _names(expressions: Sequence[Expression]) -> list[str]:
    return [name for name in CATALOGUE if any(name in expression.names for expression in expressions)]


def _payments(columns: dict[str, Column], expressions: Sequence[Expression], rows: int) -> str:
    """The relation that the predicates are over, with the columns that the rules read."""
    sql_types = {"number": "double", "boolean": "boolean", "text": "varchar"}
    facts = [f"{columns[name].sql(sql_types[CATALOGUE[name].type])} as {name}" for name in _names(expressions)]
    pairs = sorted({pair for expression in expressions for pair in expression.lists})
    listed = [f"{_listed(name, list_name)} as {list_column(name, list_name)}" for name, list_name in pairs]
    return f"""
        with numbers as (
            select a * {CHUNK} + b as i
            from unnest(sequence(0, {rows // CHUNK - 1})) as t (a) cross join unnest(sequence(0, {CHUNK - 1})) as u (b)
        ),
        facts as (select {", ".join(["i", *facts])} from numbers),
        payments as (select {", ".join(["*", *listed])} from facts)"""


def _listed(name: str, list_name: str) -> str:
    if list_name not in LISTS:
        return "cast(null as boolean)"
    return f"contains(array[{', '.join(map(literal, sorted(LISTS[list_name])))}], {name})"


def _of_trino(
    columns: dict[str, Column], expressions: Sequence[Expression], rows: int, query: Query
) -> Iterator[bytes]:
    letters = [
        f"array_join(array_agg(case when {rule} then 't' when not {rule} then 'f' else 'n' end order by i), '') as r{n}"
        for n, rule in enumerate(map(predicate, expressions))
    ]
    chunks = query(
        f"{_payments(columns, expressions, rows)} select {', '.join(letters)} from payments"
        f" group by i / {CHUNK} order by i / {CHUNK}"
    )
    for n in range(len(expressions)):
        yield "".join(chunk[f"r{n}"] for chunk in chunks).encode()


def _note(
    outcome: Outcome, columns: dict[str, Column], expression: Expression, python: bytearray, trino: bytes
) -> None:
    assert len(python) == len(trino)
    for letter in outcome.counts:
        outcome.counts[letter] += python.count(letter.encode())
    if python == trino:
        return
    for number, (ours, theirs) in enumerate(zip(python, trino, strict=True)):
        if ours != theirs:
            facts = {name: columns[name].value(number) for name in expression.names}
            outcome.disagreements.append(
                f"payment {number}: Python {chr(ours)}, Trino {chr(theirs)}: {expression.text}\n  with {facts}"
            )


def _check_filters(
    outcome: Outcome,
    columns: dict[str, Column],
    expressions: Sequence[Expression],
    expected: Sequence[bytearray],
    rows: int,
    query: Query,
) -> None:
    """The same rules in a WHERE, which Trino plans in another way than a value."""
    counts = [
        f"select {n} as rule, count(*) as hits, coalesce(sum(i), 0) as numbers from payments where {rule}"
        for n, rule in enumerate(map(predicate, expressions))
    ]
    found = query(f"{_payments(columns, expressions, rows)} {' union all '.join(counts)}")
    for row in found:
        letters, expression = expected[row["rule"]], expressions[row["rule"]]
        hits = [number for number, letter in enumerate(letters) if letter == ord("t")]
        if (len(hits), sum(hits)) != (row["hits"], row["numbers"]):
            outcome.disagreements.append(f"where: Python {len(hits)} hits, Trino {row['hits']}: {expression.text}")


def main() -> None:
    """Compare, print the counts, and exit with 1 if there are disagreements."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=100_000, help=f"payments, a multiple of {CHUNK:,}")
    arguments.add_argument("--rules", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    if chosen.rows < CHUNK or chosen.rows % CHUNK or chosen.rows > MODULUS:
        arguments.error(f"--rows must be a multiple of {CHUNK:,}, at most {MODULUS:,}")
    random = Random(chosen.seed)
    started = time.monotonic()
    outcome = Outcome()
    columns = random_columns(random)
    expressions = random_expressions(random, chosen.rules)
    for start in range(0, len(expressions), RULES_A_QUERY):
        part = compare(columns, expressions[start : start + RULES_A_QUERY], chosen.rows, query, filters=True)
        outcome.disagreements += part.disagreements
        for letter in outcome.counts:
            outcome.counts[letter] += part.counts[letter]
        done = min(start + RULES_A_QUERY, len(expressions))
        print(f"{done} of {len(expressions)} rules, {time.monotonic() - started:.0f} s: {outcome}", flush=True)
    for disagreement in outcome.disagreements[:10]:
        print(disagreement)
    sys.exit(bool(outcome.disagreements))


if __name__ == "__main__":
    main()

"""A rule has the same hits live and in a backtest; `make rules-parity` is the long form."""

from random import Random

from rule_parity import compare, random_columns, random_expressions
from trino_tools import query


def test_python_and_trino_agree_on_random_rules_and_payments() -> None:
    random = Random(1)
    outcome = compare(random_columns(random), random_expressions(random, 60), 2_000, query)
    assert not outcome.disagreements, "\n".join(outcome.disagreements[:5])
    assert sum(outcome.counts.values()) == 60 * 2_000
    # Each of the three happens often.
    assert min(outcome.counts.values()) > 5_000

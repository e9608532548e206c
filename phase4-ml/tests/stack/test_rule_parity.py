"""A rule has the same hits live and in a backtest; `make rules-parity` is the long form."""

from random import Random

from rule_parity import compare, random_columns, random_expressions
from rules.money import amount_ref, is_round, is_round_sql, to_cents, to_cents_sql
from rules.to_trino import literal
from trino_tools import query


def test_python_and_trino_agree_on_random_rules_and_payments() -> None:
    random = Random(1)
    outcome = compare(random_columns(random), random_expressions(random, 60), 2_000, query, filters=False)
    assert not outcome.disagreements, "\n".join(outcome.disagreements[:5])
    assert sum(outcome.counts.values()) == 60 * 2_000
    # Each of the three happens often.
    assert min(outcome.counts.values()) > 5_000


def test_amounts_are_the_same_to_the_last_bit() -> None:
    random = Random(1)
    cases = [(random.randrange(1, 10 ** random.randint(1, 12)) / 100, random.uniform(0.0001, 3)) for _ in range(1_000)]
    cases += [(amount, 1.0) for amount in (0.01, 12.345, 0.005, 2.675, 9999999999.99, 1000.0)]
    rows = query(
        f"select amount, {to_cents_sql('amount')} as cents, {is_round_sql('amount')} as is_round,"
        f" {to_cents_sql(f'{to_cents_sql("amount")} * rate')} as amount_ref"
        f" from (values {', '.join(f'({literal(amount)}, {literal(rate)})' for amount, rate in cases)})"
        " as t (amount, rate)"
    )
    for (amount, rate), row in zip(cases, rows, strict=True):
        cents = to_cents(amount)
        assert row == {
            "amount": amount,
            "cents": cents,
            "is_round": is_round(amount),
            "amount_ref": amount_ref(cents, rate),
        }

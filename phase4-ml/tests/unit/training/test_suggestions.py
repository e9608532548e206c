"""Suggested rules: what a tree finds is a rule of the language, and only what holds up later is shown."""

from datetime import date

import numpy as np
import pytest
import sqlglot
from rules.language import parse
from training import suggest_rules, suggestions
from training.suggest_rules import Days, Passed, shown, split
from training.suggestions import NAMES, Condition, Missed, Suggestion, Worth, best, candidates

LEARN, LATER = Days([(date(2026, 1, 1), date(2026, 1, 20))]), Days([(date(2026, 1, 21), date(2026, 1, 30))])


def payments(count: int, **columns: np.ndarray) -> np.ndarray:
    """Values of NAMES that are 0 where nothing else is said."""
    values = np.zeros((count, len(NAMES)))
    for name, column in columns.items():
        values[:, NAMES.index(name)] = column
    return values


def test_a_pattern_is_found_as_a_rule_and_the_next_one_after_it() -> None:
    random = np.random.default_rng(5)
    count = 20_000
    amounts, new, night = random.gamma(2, 100, count), random.random(count) < 0.1, random.random(count) < 0.3
    first = (amounts > 612.4) & new
    second = night & ~new & (amounts < 12.34)
    is_fraud = first | (second & (random.random(count) < 0.8))
    values = payments(count, amount_ref=amounts, is_new_device_30d=new, is_night=night)
    found = candidates(Missed(values, is_fraud, np.where(is_fraud, 1.0, 10.0)), seed=1)

    assert len(found) >= 2
    texts = [expression.text for expression in found]
    # Without a condition that only divides what these have found.
    assert texts[0].startswith("amount_ref > 6") and texts[0].endswith(" and is_new_device_30d")
    assert any("is_night" in text and "amount_ref <= 1" in text for text in texts)
    # Rounded, and still right: nearly all frauds, and few others.
    assert all(len(text) < 120 for text in texts)
    assert all(name in NAMES for expression in found for name in expression.names)


def test_without_a_pattern_or_with_few_frauds_nothing_survives() -> None:
    random = np.random.default_rng(6)
    values = random.normal(size=(5_000, len(NAMES)))
    few = np.arange(5_000) < suggestions.MIN_FRAUDS - 1
    assert candidates(Missed(values, few, np.ones(5_000)), seed=1) == []
    constant = Missed(np.zeros((5_000, len(NAMES))), np.arange(5_000) < 50, np.ones(5_000))
    assert candidates(constant, seed=1) == []


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition("amount_ref", True, 612.0), "amount_ref > 612"),
        (Condition("fraud_probability", False, 0.0123), "fraud_probability <= 0.0123"),
        (Condition("is_night", True, 0.5), "is_night"),
        (Condition("is_night", False, 0.5), "not is_night"),
        (Condition("amount_zscore_30d", True, -1.25), "amount_zscore_30d > -1.25"),
        (Condition("amount_ref", True, 1234567.0), "amount_ref > 1234567"),
    ],
)
def test_a_condition_is_written_so_that_it_can_be_read_and_parsed(condition: Condition, text: str) -> None:
    assert condition.name in NAMES
    assert condition.text == text
    assert parse(text).names == (condition.name,)


def test_an_unknown_value_fulfils_no_condition() -> None:
    missed = Missed(payments(3, amount_ref=np.array([np.nan, 5, 15])), np.zeros(3, bool), np.ones(3))
    assert Condition("amount_ref", True, 10).holds(missed).tolist() == [False, False, True]
    assert Condition("amount_ref", False, 10).holds(missed).tolist() == [False, True, False]


def suggestion(text: str, frauds: int, legitimate: int, amount: float) -> Suggestion:
    return Suggestion(parse(text), Worth(50, 50, 5_000), Worth(frauds, legitimate, amount))


def test_only_what_is_better_than_chance_and_worth_its_cost_is_shown() -> None:
    good = suggestion("amount_ref > 900", 20, 80, 8_000)
    better = suggestion("amount_ref > 800", 30, 90, 12_000)
    chance = suggestion("amount_ref > 1", 1, 99, 8_000)
    costly = suggestion("is_night", 20, 80, 90)
    never = suggestion("is_night and amount_ref > 1", 0, 0, 0)
    assert best([good, better, chance, costly, never], 0.01, 1.0) == [better, good]
    assert len(best([good] * 9, 0.01, 1.0)) == suggestions.SHOWN

    passed = Passed(10_000, 100, [])
    text = shown([good], passed, LEARN, LATER, 30)
    assert "make rules-backtest DAYS=30 WHEN='amount_ref > 900'" in text
    assert "100 hits, 20 frauds (20.0%, 13.3% to 28.9%)" in text
    assert shown([], passed, LEARN, LATER, 30).splitlines()[1].startswith("No suggestion")


def test_the_later_days_are_a_third_and_no_day_is_in_both() -> None:
    payments_of = {date(2026, 1, day): 1_000 for day in range(1, 31)}
    learn, later = split(date(2026, 1, 1), date(2026, 1, 30), payments_of)
    assert str(learn) == "2026-01-01 to 2026-01-20"
    assert str(later) == "2026-01-21 to 2026-01-30"


def test_what_is_read_is_a_query_of_trino() -> None:
    """The names of the catalogue are columns of the relation, and the live rules decide."""
    asked: list[str] = []

    class Cursor:
        def execute(self, sql: str) -> None:
            asked.append(sql)

        def fetchall(self) -> list[list[object]]:
            if "information_schema" in asked[-1]:
                return [["example_scores", "fraud_probability"]]
            if "rulesets" in asked[-1]:
                rule = (
                    '{"rule_id": 1, "version": 1, "name": "a", "lane": "rule", "state": "live", "answer": "decline",'
                    ' "queue": false, "when": "currency = \'USD\'"}'
                )
                return [[f'{{"rules": [{rule}]}}']]
            return [[5, 1, 2, 3, 4.0]] if "count_if(coalesce(" in asked[-1] else [[True, *range(len(NAMES))]]

    source = suggest_rules.Source(Cursor(), suggest_rules.BacktestSettings())  # type: ignore[arg-type]
    assert [rule.name for rule in source.live] == ["a"]
    passed = source.passed(LEARN, [parse("amount_ref > 5 and is_night")])
    assert (passed.payments, passed.frauds, passed.hits) == (5, 1, [Worth(2, 3, 4.0)])
    missed = source.missed(LEARN, 60_000)
    assert missed.values[0].tolist() == list(range(len(NAMES)))
    for sql in asked:
        sqlglot.parse_one(sql, read="trino")
    assert "1048575) < 524288" in asked[-1], "every second legitimate payment"
    assert all(name in asked[-1] for name in NAMES)

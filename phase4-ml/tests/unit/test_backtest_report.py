"""A backtest worked by hand: what a report says of a few payments."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from rules.backtest.curve import curve_of
from rules.backtest.plan import Plan, Rule
from rules.backtest.report import Cell, Costs, report_of, wilson, without_spare_examples
from rules.backtest.show import show
from rules.language import parse

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 2)
COSTS = Costs(review=25.0, challenge=1.0, minutes_per_case=6.0)
RULE = Rule("high", parse("amount > 500"), answer="challenge", queue=True, key=(3, 2))
BEFORE = replace(RULE, expression=parse("amount > 800"), key=(3, 1))
PLAN = Plan(RULE, BEFORE, (), curve_of(RULE.expression))
THRESHOLDS = len(PLAN.curve.variants) if PLAN.curve else 0


def cell(**values: Any) -> Cell:
    """Payments on the first day that the rule does not hit, legitimate, scored 0.01 each, of 10 each."""
    payments = values.get("payments", 1)
    usual: dict[str, Any] = {
        "day": FIRST, "source": "prediction", "label": "legitimate", "hit": False, "was_hit": False, "answer": 0,
        "queue": False, "declined": False, "held_out": False, "learned": False, "payments": payments,
        "amount": 10.0 * payments, "without_rate": 0, "score": 0.01 * payments, "scored": payments, "recorded": 0,
        "recorded_hits": 0, "examples": (),
        "variants": ((payments if values.get("hit") else 0, values.get("amount", 0.0)),) * THRESHOLDS,
    }  # fmt: skip
    return Cell(**(usual | values))


def row(key: int, name: str) -> list[Any]:
    return [key, name, "u", "m", "2026-01-01 10:00:00.000 UTC", 600.0, "EUR", 0.5, "low"]


CELLS = [
    cell(payments=1000),
    # Hits: 6 frauds and 2 legitimate ones that nothing else acts upon, of which the version before had 3 frauds.
    cell(
        label="fraud", hit=True, was_hit=True, payments=3, amount=3000.0, score=1.5,
        examples=[row(5, "f5"), row(9, "f9")],
    ),
    cell(label="fraud", hit=True, payments=3, amount=1800.0, score=1.2, examples=[row(7, "f7")]),
    cell(hit=True, payments=2, amount=1200.0, score=0.3, day=LAST, examples=[row(1, "l1")]),
    # The model has an analyst look at these 2 already.
    cell(label="fraud", hit=True, was_hit=True, answer=1, queue=True, payments=2, amount=2000.0, score=1.6),
    # Not matured, and declined.
    cell(label="unknown", hit=True, payments=4, amount=2400.0, score=0.4),
    cell(label="fraud", hit=True, declined=True, answer=2, payments=5, amount=5000.0, score=4.0),
    # What the rule misses; and what the rule would have caught before.
    cell(label="fraud", payments=2, amount=100.0, examples=[row(4, "m4")]),
    cell(label="fraud", queue=True, payments=1, examples=[row(3, "caught")]),
    cell(was_hit=True, payments=1, amount=900.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of(PLAN, FIRST, LAST, CELLS, COSTS)


def test_hits(report: dict[str, Any]) -> None:
    hits = report["hits"]
    assert (hits["payments"], hits["per_day"], hits["amount"]) == (19, 9.5, 15_400.0)
    # 6 + 2 matured frauds, 2 legitimate, 4 unknown, 5 declined.
    assert (hits["frauds"], hits["legitimate"], hits["unknown"], hits["declined"]) == (8, 2, 4, 5)


def test_marginal_hits_change_the_answer_or_the_queue(report: dict[str, Any]) -> None:
    marginal = report["marginal"]
    # All but the 2 of the model; the 5 declined ones would be queued, too.
    assert marginal["payments"] == 17
    assert marginal["newly_queued"] == 17
    assert marginal["queue_hours_per_day"] == pytest.approx(17 * 6 / 60 / 2)


def test_precision_is_that_of_matured_payments_that_were_not_declined(report: dict[str, Any]) -> None:
    assert report["precision"]["value"] == 8 / 10
    assert report["precision"]["of"] == 10
    # By the standard formula, for 8 of 10.
    assert (report["precision"]["low"], report["precision"]["high"]) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert report["expected_precision"] == pytest.approx((1.5 + 1.2 + 0.3 + 1.6) / 10)
    assert report["marginal_precision"]["value"] == 6 / 8


def test_recall(report: dict[str, Any]) -> None:
    # 8 of the 11 frauds that were not declined.
    assert report["recall"]["value"] == 8 / 11
    assert report["recall_of_amount"] == pytest.approx(6800 / 6910)


def test_false_positives_per_1000(report: dict[str, Any]) -> None:
    # Of 1,000 + 8 + 2 + 2 + 1 + 1 matured ones.
    assert report["false_positives_per_1000"] == pytest.approx(1000 * 2 / 1014)


def test_net_value(report: dict[str, Any]) -> None:
    """Of matured marginal hits: the frauds' amounts, less a challenge and a review of each."""
    assert report["net_value"]["saved"] == 4800.0
    assert report["net_value"]["cost"] == 8 * 26.0
    assert report["net_value"]["per_day"] == (4800 - 208) / 2


def test_net_value_of_an_exception_is_what_is_not_done_less_the_frauds_that_are_let_through() -> None:
    exception = Rule("trusted", parse("amount > 500"), lane="exception", answer="approve")
    cells = [
        cell(hit=True, answer=1, queue=True, payments=10),
        cell(label="fraud", hit=True, answer=2, payments=1, amount=40.0),
        cell(hit=True, payments=100),
    ]
    found = report_of(Plan(exception, None, (), PLAN.curve), FIRST, LAST, cells, COSTS)
    assert found["marginal"]["payments"] == 11
    assert found["net_value"]["value"] == 10 * 26.0 + 25.0 - 40.0


def test_what_a_change_adds_and_drops(report: dict[str, Any]) -> None:
    change = report["change"]
    assert {name: change[name]["payments"] for name in change} == {"both": 5, "added": 14, "dropped": 1}
    assert change["added"]["precision"]["value"] == 3 / 5
    assert change["dropped"]["frauds"] == 0


def test_declined_payments_are_a_bucket_of_their_own(report: dict[str, Any]) -> None:
    assert (report["declined"]["payments"], report["declined"]["hits"]) == (5, 5)
    assert any("5 payments were declined" in note for note in report["notes"])


def test_examples_are_drawn_by_their_key(report: dict[str, Any]) -> None:
    names = {kind: [row["transaction_id"] for row in rows] for kind, rows in report["examples"].items()}
    assert names == {"frauds": ["f9", "f7", "f5"], "legitimate": ["l1"], "missed": ["m4"]}


def test_a_report_is_the_same_without_the_examples_that_it_does_not_show() -> None:
    many = [cell(label="fraud", hit=True, examples=[row(100 + n, f"x{n}") for n in range(50)]), *CELLS]
    kept = without_spare_examples(many)
    assert len(kept[0].examples) == 20
    assert report_of(PLAN, FIRST, LAST, kept, COSTS) == report_of(PLAN, FIRST, LAST, many, COSTS)


def test_the_curve_has_the_current_threshold_with_the_same_numbers(report: dict[str, Any]) -> None:
    (current,) = [point for point in report["curve"]["points"] if point["is_current"]]
    assert report["curve"]["name"] == "amount"
    assert current["threshold"] == 500
    assert current["hits"] == 19
    assert current["precision"] == report["precision"]
    assert current["recall"] == report["recall"]["value"]
    assert current["net_value"] == report["net_value"]["value"]


def test_days_without_a_hit_are_days(report: dict[str, Any]) -> None:
    assert report["by_day"] == [
        {"day": "2026-01-01", "hits": 17, "marginal": 15, "frauds": 8},
        {"day": "2026-01-02", "hits": 2, "marginal": 2, "frauds": 0},
    ]


def test_nothing_matured_is_no_precision() -> None:
    found = report_of(PLAN, FIRST, LAST, [cell(label="unknown", hit=True)], COSTS)
    assert found["precision"] == {"value": None, "low": None, "high": None, "of": 0}
    assert found["recall"]["value"] is None
    assert "no matured payment" in show(found)


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([cell(source="unscored", payments=7)], "7 payments have no score"),
        (
            [cell(source="history", learned=True, payments=8)],
            "8 payments are of the period that the model learned from",
        ),
        ([cell(label="unknown", payments=9)], "9 payments have not matured"),
        ([cell(without_rate=2, payments=9)], "2 payments have no exchange rate"),
        ([cell(hit=True, recorded=3, recorded_hits=2, payments=3)], "1 of 3 hits that serving recorded are none here"),
    ],
)
def test_what_flatters_or_is_missing_is_said(cells: list[Cell], note: str) -> None:
    assert any(note in each for each in report_of(PLAN, FIRST, LAST, cells, COSTS)["notes"])


def test_the_text_has_what_a_person_decides_by(report: dict[str, Any]) -> None:
    text = show(report)
    assert "when amount > 500" in text
    assert "80.00 %, 49.02 % to 94.33 % of 10 (expected 46.00 %)" in text
    assert "added                       14 payments" in text
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [(0, 10, 0.0, 0.27754), (5, 5, 0.56552, 1.0)])
def test_wilson_at_the_ends(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-5)

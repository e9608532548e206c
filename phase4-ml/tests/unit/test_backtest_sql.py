"""What a backtest asks Trino: the request, the rules that it is about, and the text of the query."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlglot
from features import FEATURES
from fraud_common.errors import UserError
from rules.backtest.backtest import PAYMENTS_AT_ONCE, slices_of
from rules.backtest.curve import curve_of
from rules.backtest.plan import Plan, Rule, StoredVersion, plan_of
from rules.backtest.request import Request
from rules.backtest.sql import Tables, query_of, shown_names
from rules.catalogue import CATALOGUE
from rules.language import RuleError, parse
from rules.rates import stored_rates
from rules.to_trino import predicate
from sqlglot import exp

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 30)
NOW = datetime(2026, 11, 27, tzinfo=UTC)
ARCHIVE = frozenset({"transaction_id", "decision", "rule_results", "unknown_features", "held_out", "currency"})


def version(number: int = 1, name: str = "high", state: str = "draft", when: str = "amount > 500") -> StoredVersion:
    return StoredVersion(7, number, name, state, "rule", when, "challenge", False)


def live(name: str, rule_id: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "rule_id": rule_id, "version": 1, "name": name, "lane": "rule", "state": "live", "when": "amount > 9",
        "answer": "challenge", "queue": False, "expires_at": None,
    } | values  # fmt: skip


def plan(when: str, *others: Rule, key: tuple[int, int] | None = None) -> Plan:
    expression = parse(when)
    return Plan(Rule("tested", expression, key=key), None, others, curve_of(expression))


def sql_of(tested: Plan, tables: Tables = Tables()) -> str:  # noqa: B008 - immutable
    return query_of(tested, FIRST, LAST, tables, stored_rates().periods())


class TestRequest:
    def test_a_request_has_thirty_days_up_to_the_newest_by_default(self) -> None:
        asked = Request.of({"rule": "high"})
        assert (asked.days, asked.begin, asked.end, asked.queue) == (30, None, None, False)

    def test_a_threshold_of_the_model_queues(self) -> None:
        assert Request.of({"threshold": 0.3}).queue

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({}, "exactly one of rule, when and threshold; this one has none"),
            ({"rule": "a", "when": "true"}, "this one has rule and when"),
            ({"rule": "a", "dys": 3}, "no field 'dys'"),
            ({"rule": "a", "days": 0}, "days is 0; it must be a number from 1 to 3650"),
            ({"rule": "a", "days": 1.5}, "days is 1.5; it must be a whole number"),
            ({"rule": "a", "days": True}, "days is True"),
            ({"rule": 3}, "rule is 3; it must be a text"),
            ({"when": " "}, "when is ' '"),
            ({"threshold": 1.5}, "threshold is 1.5; it must be a number from 0.0 to 1.0"),
            ({"rule": "a", "from": "yesterday"}, "from is 'yesterday'; it must be a day"),
            ({"rule": "a", "from": "2026-02-01", "to": "2026-01-01"}, "is not 1 to 3650 days"),
            ({"when": "true", "version": 2}, "version is that of a rule"),
            ({"when": "true", "answer": "refuse"}, "answer is 'refuse'; it must be one of"),
            ({"when": "true", "queue": "yes"}, "queue is 'yes'"),
        ],
    )
    def test_a_wrong_request_names_what_is_wrong(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(UserError, match=problem.replace("(", r"\(")):
            Request.of(fields)


class TestPlan:
    def test_a_rule_is_compared_with_its_live_version(self) -> None:
        rows = [version(3), version(2, state="live", when="amount > 700"), version(1, state="retired")]
        found = plan_of(Request.of({"rule": "high"}), rows, {"rules": [live("high", 7), live("other")]}, NOW)
        assert found.candidate.key == (7, 3)
        assert found.before is not None
        assert found.before.key == (7, 2)
        assert [rule.name for rule in found.live] == ["other"]

    def test_the_live_version_itself_changes_nothing(self) -> None:
        found = plan_of(Request.of({"rule": "high"}), [version(2, state="live")], {"rules": [live("high", 7)]}, NOW)
        assert found.before is None
        assert not found.live

    def test_a_version_can_be_chosen(self) -> None:
        rows = [version(2), version(1)]
        assert plan_of(Request.of({"rule": "high", "version": 1}), rows, {}, NOW).candidate.key == (7, 1)

    def test_an_expression_may_change_a_rule(self) -> None:
        asked = Request.of({"when": "amount > 300", "compare_to": "high"})
        found = plan_of(asked, [version(2), version(1, state="live")], {"rules": [live("high", 7)]}, NOW)
        assert found.before is not None
        assert found.before.key == (7, 1)
        assert not found.live

    def test_a_threshold_is_compared_with_the_tier_that_it_replaces(self) -> None:
        found = plan_of(Request.of({"threshold": 0.00001}), [], {}, NOW)
        assert found.candidate.expression.text == "fraud_probability >= 0.000010"
        assert found.before is not None
        assert found.before.expression.text == "risk_tier = 'high'"

    def test_exceptions_that_have_ended_and_shadow_rules_decide_nothing(self) -> None:
        document = {
            "rules": [
                live("ended", 1, lane="exception", expires_at="2026-11-26T00:00:00+00:00"),
                live("lasting", 2, lane="exception", expires_at="2026-11-28T00:00:00"),
                live("shadow", 3, state="shadow"),
            ]
        }
        found = plan_of(Request.of({"when": "amount > 1"}), [], document, NOW)
        assert [rule.name for rule in found.live] == ["lasting"]

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"rule": "none"}, "there is no rule none"),
            ({"rule": "high", "version": 9}, "rule high has no version 9; its newest is 2"),
            ({"when": "amount > 1", "compare_to": "none"}, "there is no rule none"),
        ],
    )
    def test_what_is_not_there_is_named(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(UserError, match=problem):
            plan_of(Request.of(fields), [version(2)], {}, NOW)

    def test_a_wrong_expression_names_the_place(self) -> None:
        with pytest.raises(RuleError):
            plan_of(Request.of({"when": "amount > 500 amount"}), [], {}, NOW)


class TestCurve:
    def test_the_score_comes_before_other_numbers(self) -> None:
        curve = curve_of(parse("amount > 500 and fraud_probability > 0.04"))
        assert curve is not None
        assert curve.name == "fraud_probability"
        assert [each.threshold for each in curve.variants] == sorted({each.threshold for each in curve.variants})
        assert predicate(curve.variants[0].expression) == predicate(parse("amount > 500 and fraud_probability > 0.005"))

    def test_only_one_number_is_varied(self) -> None:
        curve = curve_of(parse("not (500 <= amount or transactions_1h > 3)"))
        assert curve is not None
        assert curve.current == 500
        assert predicate(curve.variants[-1].expression) == predicate(
            parse("not (2500 <= amount or transactions_1h > 3)")
        )

    def test_counts_are_varied_one_by_one(self) -> None:
        curve = curve_of(parse("transactions_1h >= 2"))
        assert curve is not None
        assert [each.threshold for each in curve.variants] == [0, 1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("when", ["is_international", "amount = 5", "country = 'DE'", "amount > amount_max_30d"])
    def test_a_rule_without_a_threshold_has_no_curve(self, when: str) -> None:
        assert curve_of(parse(when)) is None


class TestQuery:
    def test_it_reads_no_feature_that_no_rule_needs(self) -> None:
        sql = sql_of(plan("transactions_1h > 3", Rule("other", parse("is_new_device_30d"))))
        assert [name for name in FEATURES if name in sql and name not in ("amount", "is_international")] == [
            "transactions_1h",
            "is_new_device_30d",
        ]

    @pytest.mark.parametrize("name", [name for name, each in CATALOGUE.items() if each.type == "number"])
    def test_every_number_of_the_catalogue_can_be_read(self, name: str) -> None:
        assert sqlglot.parse_one(sql_of(plan(f"{name} > 1")), dialect="trino")

    def test_every_boolean_and_text_can_be_read(self) -> None:
        conditions = [
            name if each.type == "boolean" else f"{name} = 'a'"
            for name, each in CATALOGUE.items()
            if each.type != "number"
        ]
        assert sqlglot.parse_one(
            sql_of(plan(" or ".join(conditions)), Tables(archive_columns=ARCHIVE)), dialect="trino"
        )

    def test_each_rule_is_in_it_once(self) -> None:
        sql = sql_of(plan("amount > 512.5", Rule("other", parse("merchant_id = 'm''1'"))))
        assert sql.count("(merchant_id = 'm''1')") == 1
        # And once more as the current threshold of the curve.
        assert sql.count("(amount > 512.5e0)") == 2

    def test_what_a_person_writes_stays_a_literal_in_both_languages(self) -> None:
        sql = sql_of(plan("in_list(user_id, 'blocked-users') and device_id = 'x''); drop table y; --'"))
        (statement,) = sqlglot.parse(sql, dialect="trino")
        assert statement is not None
        assert {literal.this for literal in statement.find_all(exp.Literal)} >= {"x'); drop table y; --"}

    def test_membership_is_as_of_the_decision(self) -> None:
        sql = sql_of(plan("in_list(user_id, 'blocked-users')"))
        assert "x.valid_from <= list_time and (x.valid_to is null or list_time < x.valid_to)" in sql
        assert "coalesce(predictions.predicted_at, history.event_time) as list_time" in sql

    def test_groups_that_were_unknown_are_null_in_predictions_alone(self) -> None:
        sql = sql_of(plan("transactions_1h > 3 and event_hour > 3 and merchant_amount_zscore_30d > 1"))
        assert "if(strpos(predictions.unknown, 'user') > 0, null, predictions.transactions_1h)" in sql
        assert "if(strpos(predictions.unknown, 'merchant') > 0, null, predictions.merchant_amount_zscore_30d)" in sql
        assert "if(predictions.transaction_id is not null, predictions.event_hour, history.event_hour)" in sql

    def test_features_are_float32_on_both_sides(self) -> None:
        sql = sql_of(plan("amount_mean_30d > 0.1"))
        assert "as read(amount_mean_30d float4)" in sql
        assert "cast(examples.amount_mean_30d as real) as amount_mean_30d" in sql

    def test_hits_that_serving_recorded_are_those_of_this_version(self) -> None:
        assert "''[7, 3]''::jsonb in" in sql_of(plan("amount > 1", key=(7, 3)))
        assert "::jsonb in" not in sql_of(plan("amount > 1"))

    def test_an_archive_of_an_earlier_release_has_no_decisions(self) -> None:
        sql = sql_of(plan("amount > 1", key=(7, 3)), Tables(archive_columns=frozenset({"transaction_id"})))
        assert "predictions_archive" in sql
        assert "cast(null as varchar) is not null" in sql
        assert sqlglot.parse_one(sql, dialect="trino")

    def test_without_scores_nothing_is_joined(self) -> None:
        sql = sql_of(plan("amount > 1"), Tables(has_scores=False))
        assert "example_scores" not in sql
        assert sqlglot.parse_one(sql, dialect="trino")

    def test_examples_show_the_values_of_the_rule_s_names(self) -> None:
        names = shown_names(plan("transactions_1h > 3 and amount > 500"))
        assert names[-1] == "transactions_1h"
        assert names.count("amount") == 1

    @pytest.mark.parametrize(
        ("decline_high", "others", "answer", "queue"),
        [
            (
                False,
                [],
                "greatest(case risk_tier when 'high' then 1 when 'medium' then 1 else 0 end, 0)",
                "(coalesce(risk_tier = 'high', false))",
            ),
            (
                True,
                [Rule("a", parse("amount > 1"), answer="decline", queue=True)],
                "greatest(case risk_tier when 'high' then 2 when 'medium' then 1 else 0 end, if(rule_1, 2, 0), 0)",
                "(coalesce(risk_tier = 'high', false) or rule_1)",
            ),
        ],
    )
    def test_the_strictest_of_model_and_live_rules_decides(
        self, decline_high: bool, others: list[Rule], answer: str, queue: str
    ) -> None:
        sql = sql_of(plan("amount > 5", *others), Tables(decline_high=decline_high))
        assert f"select *, {answer} as answer, {queue} as queue" in sql


class TestSlices:
    def test_a_slice_has_as_many_days_as_fit(self) -> None:
        days = {date(2026, 1, n): PAYMENTS_AT_ONCE // 3 for n in range(1, 7)}
        assert slices_of(date(2026, 1, 1), date(2026, 1, 7), days) == [
            (date(2026, 1, 1), date(2026, 1, 3)),
            (date(2026, 1, 4), date(2026, 1, 6)),
            (date(2026, 1, 7), date(2026, 1, 7)),
        ]

    def test_a_day_is_never_divided(self) -> None:
        days = {date(2026, 1, 1): 9 * PAYMENTS_AT_ONCE, date(2026, 1, 2): 1}
        assert slices_of(date(2026, 1, 1), date(2026, 1, 2), days) == [
            (date(2026, 1, 1), date(2026, 1, 1)),
            (date(2026, 1, 2), date(2026, 1, 2)),
        ]

    def test_days_without_payments_are_in_a_slice(self) -> None:
        assert slices_of(FIRST, LAST, {}) == [(FIRST, LAST)]

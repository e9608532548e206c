"""Runs a backtest: reads the rules, asks Trino about some days at a time, and makes the report.

Upstream are the rules in Postgres, the predictions and the training examples, all through Trino; downstream are
rules/worker.py, which runs what the API was asked for, and `make rules-backtest`.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from fraud_common.trino import query
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError

from rules.backtest.plan import Plan, StoredVersion, plan_of
from rules.backtest.report import Cell, report_of, without_spare_examples
from rules.backtest.request import Request
from rules.backtest.settings import BacktestSettings
from rules.backtest.sql import Tables, query_of
from rules.rates import stored_rates

# Payments of one query: what Trino joins then fits into its memory, and there is progress to show.
PAYMENTS_AT_ONCE = 600_000
OUT_OF_MEMORY = ("EXCEEDED_LOCAL_MEMORY_LIMIT", "EXCEEDED_GLOBAL_MEMORY_LIMIT", "CLUSTER_OUT_OF_MEMORY")

type Progress = Callable[[float, str], None]


def run(cursor: Cursor, request: Mapping[str, Any], on_progress: Progress) -> dict[str, Any]:
    """The report of a backtest.

    Args:
        cursor: on Trino.
        request: its fields; see request.Request.
        on_progress: called with the share that is done, and what comes next.

    Raises:
        UserError: the request can't be run, or Trino can't answer it.
        RuleError: its expression is not valid.
    """
    started = time.monotonic()
    asked = Request.of(request)
    settings = load_settings(BacktestSettings)
    on_progress(0.0, "reading the rules")
    plan = read_plan(cursor, asked)
    tables = read_tables(cursor, settings)
    first, last = period(cursor, asked, tables.gold)
    slices = slices_of(first, last, payments_by_day(cursor, first, last, tables.gold))
    cells: list[Cell] = []
    for number, (begin, end) in enumerate(slices):
        on_progress(
            0.02 + 0.96 * number / len(slices), f"{begin} to {end}: payments of {len(slices)} parts, {number} done"
        )
        cells = without_spare_examples(cells + _cells(cursor, plan, begin, end, tables))
    on_progress(0.99, "writing the report")
    if not cells:
        raise UserError(f"there are no payments from {first} to {last}")
    report = report_of(plan, first, last, cells, settings.costs)
    return report | {"seconds": round(time.monotonic() - started, 1)}


def read_plan(cursor: Cursor, asked: Request) -> Plan:
    """The rules that a request is about, and those that are live.

    Raises:
        UserError: there is no such rule or version.
        RuleError: the request's expression is not valid.
    """
    names = [name for name in (asked.rule, asked.compare_to) if name]
    versions: list[StoredVersion] = []
    if names:
        cursor.execute(
            'select versions.rule_id, version, name, state, lane, "when", answer, queue'
            " from fraud.public.rule_versions as versions join fraud.public.rules as rules"
            f" on versions.rule_id = rules.rule_id where name in ({', '.join('?' * len(names))})"
            " order by version desc",
            names,
        )
        versions = [StoredVersion(*row) for row in cursor.fetchall()]
    newest = query(cursor, "select json_format(document) from fraud.public.rulesets order by ruleset_id desc limit 1")
    document = json.loads(newest[0][0]) if newest else {}
    return plan_of(asked, versions, document, datetime.now(UTC))


def read_tables(cursor: Cursor, settings: BacktestSettings) -> Tables:
    """Which tables there are: none of scores before the first `score_examples`, no archive while all is in Postgres."""
    rows = query(
        cursor,
        "select table_name, column_name from delta.information_schema.columns"
        f" where table_schema = '{settings.gold_schema}' and table_name in ('example_scores', 'predictions_archive')",
    )
    return Tables(
        gold=settings.gold_schema,
        silver=settings.silver_schema,
        has_scores=any(table == "example_scores" for table, _ in rows),
        archive_columns=frozenset(column for table, column in rows if table == "predictions_archive"),
        decline_high=settings.decision_decline_high,
    )


def period(cursor: Cursor, asked: Request, gold: str) -> tuple[date, date]:
    """The first and the last day.

    Raises:
        UserError: the request has no end, and no payment has matured yet.
    """
    end = asked.end
    if end is None:
        ((end,),) = query(cursor, f"select max(event_date) from delta.{gold}.mart_training_examples")
    if end is None:
        raise UserError("no payment has matured yet, so there is no history: try again later, or say until which day")
    return asked.begin or end - timedelta(days=asked.days - 1), end


def payments_by_day(cursor: Cursor, first: date, last: date, gold: str) -> dict[date, int]:
    """How many matured payments each day has."""
    rows = query(
        cursor,
        f"select event_date, count(*) from delta.{gold}.mart_training_examples"
        f" where event_date between date '{first}' and date '{last}' group by event_date",
    )
    return dict(rows)


def slices_of(first: date, last: date, payments: Mapping[date, int]) -> list[tuple[date, date]]:
    """The days in parts of at most PAYMENTS_AT_ONCE payments, or of one day; those that have not matured count, too."""
    usual = max(payments.values(), default=0)
    starts, so_far = [first], 0
    for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
        count = payments.get(day, usual)
        if so_far and so_far + count > PAYMENTS_AT_ONCE:
            starts.append(day)
            so_far = 0
        so_far += count
    return [(begin, after - timedelta(days=1)) for begin, after in pairwise([*starts, last + timedelta(days=1)])]


def _cells(cursor: Cursor, plan: Plan, first: date, last: date, tables: Tables) -> list[Cell]:
    sql = query_of(plan, first, last, tables, stored_rates().periods())
    try:
        cursor.execute(sql)
        # One by one, since what Trino's client makes of a row is large.
        return [Cell.of(row) for row in cursor]
    except TrinoQueryError as error:
        if error.error_name in OUT_OF_MEMORY:
            raise UserError(
                f"Trino has too little memory for {first} to {last} at this moment; wait for its other queries, or ask"
                " for days with fewer payments"
            ) from error
        raise

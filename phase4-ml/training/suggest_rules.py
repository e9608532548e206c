"""Suggests rules for frauds that neither the model nor a live rule has acted upon, as SQL to edit.

python -m training.suggest_rules [--days 30]

Upstream are the training examples with their scores (score_examples.py), the predictions and the live rules, by the
query of a backtest; downstream is a person, who runs a backtest of what looks good. Rules are learned from the first
two thirds of the days, and shown if they hold up on the last third. Nothing is changed.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import load_settings
from fraud_common.trino import query, trino_cursor
from rules.backtest.backtest import payments_by_day, period, read_plan, read_tables, slices_of
from rules.backtest.plan import Plan, Rule
from rules.backtest.request import MOST_DAYS, Request
from rules.backtest.settings import BacktestSettings
from rules.backtest.sql import Tables, relations_of
from rules.language import Expression, parse
from rules.rates import stored_rates
from rules.to_trino import predicate
from trino.dbapi import Cursor

from training.gold import print_progress
from training.settings import Settings
from training.suggestions import CANDIDATES, MIN_FRAUDS, NAMES, Missed, Suggestion, Worth, best, candidates

FEWEST_DAYS = 6
# Legitimate payments that a tree is fitted to; all missed frauds are read.
LEGITIMATE_READ = 30_000
# Of payments that nothing acts upon, with a known label and a score.
_PASSES = "answer = 0 and not queue and label <> 'unknown' and fraud_probability is not null"

# In the place of the rule that a backtest is about.
_NOTHING = parse("false")


@dataclass(frozen=True, slots=True)
class Days:
    """A part of the period: its slices, each small enough for one query."""

    slices: Sequence[tuple[date, date]]

    def __str__(self) -> str:
        return f"{self.slices[0][0]} to {self.slices[-1][1]}"


@dataclass(frozen=True, slots=True)
class Passed:
    """What nothing acted upon in some days: payments and frauds, and for each candidate what it hits of them."""

    payments: int
    frauds: int
    hits: list[Worth]

    @property
    def share_of_frauds(self) -> float:
        """Of the payments."""
        return self.frauds / self.payments if self.payments else 0.0


class Source:
    """Payments of some days with the decision of the model and the live rules, through Trino."""

    def __init__(self, cursor: Cursor, settings: BacktestSettings) -> None:
        """Read which tables and which live rules there are."""
        self._cursor = cursor
        self.tables: Tables = read_tables(cursor, settings)
        self.live = read_plan(cursor, Request(when=_NOTHING.text)).live

    def passed(self, days: Days, found: Sequence[Expression]) -> Passed:
        """Count what nothing acted upon, and what each of these rules hits of it."""
        counts = "".join(
            f",\n    count_if({hit} and label = 'fraud'), count_if({hit} and label = 'legitimate'),"
            f" coalesce(sum(amount_ref) filter (where {hit} and label = 'fraud'), 0e0)"
            for hit in (f"coalesce({predicate(expression)}, false)" for expression in found)
        )
        names = tuple(dict.fromkeys(name for expression in found for name in expression.names))
        total = np.zeros(2 + 3 * len(found))
        for rows in self._slices(
            days, names, f"select count(*), count_if(label = 'fraud'){counts} from decided where {_PASSES}"
        ):
            total += np.array(rows[0], dtype=float)
        hits = [Worth(int(total[n]), int(total[n + 1]), float(total[n + 2])) for n in range(2, len(total), 3)]
        return Passed(int(total[0]), int(total[1]), hits)

    def missed(self, days: Days, legitimate: int) -> Missed:
        """All frauds that nothing acted upon, and a sample of the legitimate payments.

        Args:
            legitimate: how many of those there are.
        """
        share = min(1.0, LEGITIMATE_READ / max(legitimate, 1))
        drawn = f"bitwise_and(from_big_endian_64(xxhash64(to_utf8(transaction_id))), 1048575) < {int(share * 1048576)}"
        columns = ", ".join(f"cast({name} as double)" for name in NAMES)
        sql = f"select label = 'fraud', {columns} from decided where {_PASSES} and (label = 'fraud' or {drawn})"
        parts = [np.array(rows, dtype=float) for rows in self._slices(days, NAMES, sql) if rows]
        rows = np.concatenate(parts) if parts else np.empty((0, 1 + len(NAMES)))
        # Trino returns rows in any order; the same payments must give the same rules.
        rows = rows[np.lexsort(rows.T)]
        is_fraud = rows[:, 0] == 1
        return Missed(rows[:, 1:], is_fraud, np.where(is_fraud, 1.0, 1 / share))

    def _slices(self, days: Days, names: Sequence[str], sql: str) -> Iterator[list[list[Any]]]:
        plan = Plan(Rule("none", _NOTHING), None, self.live, None)
        for number, (begin, end) in enumerate(days.slices, start=1):
            relations = relations_of(plan, begin, end, self.tables, stored_rates().periods(), also=names)
            yield query(self._cursor, f"{relations}\n{sql}")
            print_progress(f"{begin} to {end}: part {number} of {len(days.slices)} read")


def split(first: date, last: date, payments: dict[date, int]) -> tuple[Days, Days]:
    """The first two thirds of the days, and the rest."""
    until = first + timedelta(days=2 * ((last - first).days + 1) // 3 - 1)
    return Days(slices_of(first, until, payments)), Days(slices_of(until + timedelta(days=1), last, payments))


def suggest(source: Source, learn: Days, later: Days, settings: Settings) -> tuple[list[Suggestion], Passed]:
    """The rules that hold up, and what nothing acted upon in the later days.

    Raises:
        UserError: no payment of the days has a score.
    """
    all_learned, all_later = source.passed(learn, []), source.passed(later, [])
    if not all_learned.payments or not all_later.payments:
        raise UserError(
            f"no payment of {learn} and {later} has a score and a matured label: make score-examples, then try again"
        )
    print_progress(f"{learn}: nothing acted upon {all_learned.frauds:,} frauds of {all_learned.payments:,} payments")
    if all_learned.frauds < MIN_FRAUDS:
        return [], all_later
    found = candidates(source.missed(learn, all_learned.payments - all_learned.frauds), settings.training_seed)
    if not found:
        return [], all_later
    print_progress(f"{len(found)} candidates (of at most {CANDIDATES}): counting what they hit")
    in_learned, in_later = source.passed(learn, found), source.passed(later, found)
    suggestions = [Suggestion(*each) for each in zip(found, in_learned.hits, in_later.hits, strict=True)]
    return best(suggestions, all_later.share_of_frauds, settings.training_challenge_cost), all_later


def shown(suggestions: Sequence[Suggestion], passed: Passed, learn: Days, later: Days, days: int) -> str:
    """What a person reads."""
    head = (
        f"{later}: nothing acted upon {passed.frauds:,} frauds of {passed.payments:,} payments "
        f"({passed.share_of_frauds:.3%})."
    )
    if not suggestions:
        return (
            f"{head}\nNo suggestion: what separates frauds from other payments in {learn} does not do so later, or "
            "costs more than it saves."
        )
    lines = [head, f"Learned from {learn}, judged on the later days. Edit them, then run the backtest.", ""]
    for number, each in enumerate(suggestions, start=1):
        low, high = each.later.interval
        lines += [
            f"{number}. {each.expression.text}",
            f"   learned: {each.learned.hits:,} hits, {each.learned.frauds:,} frauds ({each.learned.precision:.1%})",
            f"   later:   {each.later.hits:,} hits, {each.later.frauds:,} frauds ({each.later.precision:.1%}, "
            f"{low:.1%} to {high:.1%}), {each.later.amount_of_frauds:,.0f} in frauds",
            f"   make rules-backtest DAYS={days} WHEN='{each.expression.text}'",
            "",
        ]
    return "\n".join(lines).rstrip()


def _days(text: str) -> int:
    days = int(text)
    if not FEWEST_DAYS <= days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"it is {days}; it must be from {FEWEST_DAYS} to {MOST_DAYS}")
    return days


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.suggest_rules", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--days", type=_days, default=30, help="the newest days whose labels have matured (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(Settings)
        with trino_cursor(settings, user="training", schema=settings.gold_schema) as cursor:
            source = Source(cursor, load_settings(BacktestSettings))
            first, last = period(cursor, Request(when=_NOTHING.text, days=arguments.days), settings.gold_schema)
            learn, later = split(first, last, payments_by_day(cursor, first, last, settings.gold_schema))
            suggestions, passed = suggest(source, learn, later, settings)
        sys.stdout.write(shown(suggestions, passed, learn, later, arguments.days) + "\n")


if __name__ == "__main__":
    main()

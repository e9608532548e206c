"""The report of a backtest, from the cells that the query has counted. Pure arithmetic.

A hit is a payment for which the rule is true. It is *marginal* if the rule changes what happens: its answer is stricter
than that of the model and the other live rules, or it queues what they don't (of an exception: it lets through what
they don't). Precision and recall are those of matured payments that were not declined: a declined payment has no
chargeback, so that its label would say nothing. Intervals are those of Wilson at 95 %.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import sqrt
from typing import Any

from rules.backtest.plan import Plan, Rule
from rules.backtest.sql import DIMENSIONS, EXAMPLES, MEASURES, RANKS, shown_names

# The quantile of the standard normal distribution for 95 %.
Z = 1.959964


@dataclass(frozen=True, slots=True)
class Costs:
    """What acting on a payment costs, in the currency of the settings, and how long a review takes."""

    review: float
    challenge: float
    minutes_per_case: float

    def of(self, answer: int, queue: bool) -> float:
        """The cost of an answer; a declined payment costs as much as a review, since its cardholder calls."""
        return (0.0, self.challenge, self.review)[answer] + (self.review if queue else 0.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """Payments of a day that are alike; see sql.DIMENSIONS and sql.MEASURES.

    Attributes:
        answer: of the model and the other live rules: 0 approve, 1 challenge, 2 decline.
        queue: whether they queue it.
        amount: in the reference currency, without those whose rate is unknown.
        score: the sum of the scores of those that have one.
        variants: for each threshold of the curve the payments that it hits, and their amount.
    """

    day: date
    source: str
    label: str
    hit: bool
    was_hit: bool
    answer: int
    queue: bool
    declined: bool
    held_out: bool
    learned: bool
    payments: int
    amount: float
    without_rate: int
    score: float
    scored: int
    recorded: int
    recorded_hits: int
    examples: Sequence[Sequence[Any]]
    variants: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Cell":
        """A row of the query."""
        known = len(DIMENSIONS) + len(MEASURES)
        fields: dict[str, Any] = dict(zip((*DIMENSIONS, *MEASURES), row[:known], strict=True))
        # Rows of Trino's client are tuples with a dictionary and a text each: several times as large.
        fields["examples"] = [tuple(example) for example in fields["examples"] or ()]
        rest = row[known:]
        return cls(**fields, variants=tuple(zip(rest[::2], rest[1::2], strict=True)))

    @property
    def is_acted_on(self) -> bool:
        """Whether the model or another live rule asks the cardholder, declines, or has somebody look."""
        return self.answer > 0 or self.queue

    @property
    def counts(self) -> bool:
        """Whether its label says whether it is a fraud."""
        return self.label != "unknown" and not self.declined

    @property
    def is_fraud(self) -> bool:
        """Whether it is one, and this is known."""
        return self.label == "fraud" and not self.declined


def report_of(plan: Plan, first: date, last: date, cells: Sequence[Cell], costs: Costs) -> dict[str, Any]:
    """The report, as it is stored and as the API answers.

    Args:
        first: the first day.
        last: the last one.
        cells: of all these days.
        costs: by the settings.
    """
    days = (last - first).days + 1
    # Days before the first payment, or after the last one, would make each day look quieter than it was.
    seen = [cell.day for cell in cells] or [first, last]
    days_seen = (max(seen) - min(seen)).days + 1
    changes = _changes(plan.candidate)
    hits = [cell for cell in cells if cell.hit]
    marginal = [cell for cell in hits if changes(cell)]
    return {
        "rule": _described(plan.candidate),
        "compare_to": _described(plan.before) if plan.before else None,
        "others": [rule.name for rule in plan.live],
        "period": {"from": first.isoformat(), "to": last.isoformat(), "days": days},
        "payments": _payments(cells),
        "hits": _group(hits, days_seen, costs, plan.candidate),
        "marginal": _group(marginal, days_seen, costs, plan.candidate) | {"changes": _what_changes(plan.candidate)},
        "precision": _rate(_sum(_counted(hits), _frauds), _sum(_counted(hits), _payment_count)),
        "expected_precision": _expected(_counted(hits)),
        "marginal_precision": _rate(_sum(_counted(marginal), _frauds), _sum(_counted(marginal), _payment_count)),
        "recall": _rate(_sum(hits, _frauds), _sum(cells, _frauds)),
        "recall_of_amount": _ratio(_fraud_amount(hits), _fraud_amount(cells)),
        "false_positives_per_1000": _per_1000(_sum(_counted(hits), _legitimate), _sum(_counted(cells), _payment_count)),
        "net_value": _net_value(plan.candidate, marginal, days_seen, costs),
        "curve": _curve(plan, cells, days_seen, costs),
        "change": _change(plan, cells) if plan.before else None,
        "declined": _bucket([cell for cell in cells if cell.declined]),
        "held_out": _bucket([cell for cell in cells if cell.held_out]),
        "recorded": {
            "hits": sum(cell.recorded for cell in cells),
            "hits_here": sum(cell.recorded_hits for cell in cells),
        },
        "by_day": _by_day(hits, changes, first, days),
        "examples": _examples(plan, cells),
        "costs": {"review": costs.review, "challenge": costs.challenge, "minutes_per_case": costs.minutes_per_case},
        "notes": _notes(plan, cells),
    }


def without_spare_examples(cells: Sequence[Cell]) -> list[Cell]:
    """The same cells, with those examples only that a report may still show: all would fill the worker's memory."""
    shown: set[int] = set()
    for is_kind in _KINDS.values():
        keys = (example[0] for cell in cells if is_kind(cell) for example in cell.examples)
        shown.update(heapq.nlargest(EXAMPLES, keys))
    return [
        replace(cell, examples=[example for example in cell.examples if example[0] in shown]) if cell.examples else cell
        for cell in cells
    ]


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """The interval of a share at 95 %.

    Wilson, 1927: Probable inference, the law of succession, and statistical inference.
    """
    share = successes / trials
    middle = share + Z * Z / (2 * trials)
    spread = Z * sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    scale = 1 + Z * Z / trials
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "rule_id": rule.key[0] if rule.key else None,
        "version": rule.key[1] if rule.key else None,
        "when": rule.expression.text,
        "lane": rule.lane,
        "answer": rule.answer,
        "queue": rule.queue,
    }


def _changes(rule: Rule) -> Callable[[Cell], bool]:
    """Whether a hit changes what happens to the payment."""
    rank = RANKS[rule.answer]
    if rule.lane == "exception":
        return lambda cell: cell.answer > rank
    return lambda cell: rank > cell.answer or (rule.queue and not cell.queue)


def _what_changes(rule: Rule) -> str:
    if rule.lane == "exception":
        return "the model or another live rule is stricter"
    return f"neither the model nor another live rule would {rule.answer}{' and queue' if rule.queue else ''} it"


def _payments(cells: Sequence[Cell]) -> dict[str, int]:
    def count(chosen: Callable[[Cell], bool]) -> int:
        return sum(cell.payments for cell in cells if chosen(cell))

    return {
        "total": count(lambda _: True),
        "from_predictions": count(lambda cell: cell.source == "prediction"),
        "from_history": count(lambda cell: cell.source != "prediction"),
        "without_score": count(lambda cell: cell.source == "unscored"),
        "learned_from": count(lambda cell: cell.learned),
        "frauds": count(lambda cell: cell.is_fraud),
        "unknown_labels": count(lambda cell: cell.label == "unknown"),
        "declined": count(lambda cell: cell.declined),
        "held_out": count(lambda cell: cell.held_out),
        "without_exchange_rate": sum(cell.without_rate for cell in cells),
    }


def _group(cells: Sequence[Cell], days: int, costs: Costs, rule: Rule) -> dict[str, Any]:
    """Some hits: how many, what they are worth, and what an analyst does with them."""
    count = sum(cell.payments for cell in cells)
    queued = sum(cell.payments for cell in cells if not cell.queue) if rule.queue else 0
    return {
        "payments": count,
        "per_day": count / days,
        "amount": sum(cell.amount for cell in cells),
        "newly_queued": queued,
        "queue_hours_per_day": queued * costs.minutes_per_case / 60 / days,
        "frauds": _sum(cells, _frauds),
        "legitimate": _sum(cells, _legitimate),
        "unknown": sum(cell.payments for cell in cells if cell.label == "unknown" and not cell.declined),
        "declined": sum(cell.payments for cell in cells if cell.declined),
        "fraud_amount": _fraud_amount(cells),
    }


def _counted(cells: Iterable[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.counts]


def _sum(cells: Iterable[Cell], count: Callable[[Cell], int]) -> int:
    return sum(map(count, cells))


def _payment_count(cell: Cell) -> int:
    return cell.payments


def _frauds(cell: Cell) -> int:
    return cell.payments if cell.is_fraud else 0


def _legitimate(cell: Cell) -> int:
    return cell.payments if cell.counts and not cell.is_fraud else 0


def _fraud_amount(cells: Iterable[Cell]) -> float:
    return sum(cell.amount for cell in cells if cell.is_fraud)


def _rate(successes: int, trials: int) -> dict[str, Any]:
    """A share with its interval; all None without a trial."""
    low, high = wilson(successes, trials) if trials else (None, None)
    return {"value": _ratio(successes, trials), "low": low, "high": high, "of": trials}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _per_1000(part: int, whole: int) -> float | None:
    return 1000 * part / whole if whole else None


def _expected(cells: Sequence[Cell]) -> float | None:
    """What the calibrated scores say of the precision of the same payments, where they have a score."""
    return _ratio(sum(cell.score for cell in cells), sum(cell.scored for cell in cells))


def _net_value(rule: Rule, marginal: Sequence[Cell], days: int, costs: Costs) -> dict[str, Any]:
    """What the matured hits that change something are worth: the amounts of their frauds, less the cost of acting.

    As in the choice of the model's thresholds: a fraud that is acted upon costs nothing, a missed one its amount. For
    an exception it is the reverse: what is not done is saved, and frauds that are let through cost their amounts.
    """
    counted = _counted(marginal)
    rank = RANKS[rule.answer]
    if rule.lane == "exception":
        saved = sum(
            cell.payments * (costs.of(cell.answer, cell.queue) - costs.of(rank, rule.queue)) for cell in counted
        )
        lost = _fraud_amount(counted) if rank == 0 and not rule.queue else 0.0
    else:
        saved = _fraud_amount(cell for cell in counted if not cell.is_acted_on)
        lost = sum(
            cell.payments
            * (costs.of(max(rank, cell.answer), cell.queue or rule.queue) - costs.of(cell.answer, cell.queue))
            for cell in counted
        )
    return {"saved": saved, "cost": lost, "value": saved - lost, "per_day": (saved - lost) / days}


def _curve(plan: Plan, cells: Sequence[Cell], days: int, costs: Costs) -> dict[str, Any] | None:
    if not plan.curve:
        return None
    changes = _changes(plan.candidate)
    frauds = _sum(cells, _frauds)
    points = []
    for number, variant in enumerate(plan.curve.variants):
        hit = [(cell, *cell.variants[number]) for cell in cells if cell.variants[number][0]]
        counted = [(cell, payments) for cell, payments, _ in hit if cell.counts]
        found = sum(payments for cell, payments in counted if cell.is_fraud)
        as_marginal = [_part(cell, payments, amount) for cell, payments, amount in hit if changes(cell)]
        points.append(
            {
                "threshold": variant.threshold,
                "is_current": variant.threshold == plan.curve.current,
                "hits": sum(payments for _, payments, _ in hit),
                "hits_per_day": sum(payments for _, payments, _ in hit) / days,
                "marginal_hits": sum(cell.payments for cell in as_marginal),
                "frauds": found,
                "precision": _rate(found, sum(payments for _, payments in counted)),
                "recall": _ratio(found, frauds),
                "net_value": _net_value(plan.candidate, as_marginal, days, costs)["value"],
            }
        )
    return {"name": plan.curve.name, "points": points}


def _part(cell: Cell, payments: int, amount: float) -> Cell:
    """The part of a cell that a threshold hits."""
    values = {name: getattr(cell, name) for name in cell.__slots__}
    return Cell(**(values | {"payments": payments, "amount": amount}))


def _change(plan: Plan, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the rule adds to the version that it changes, and what it drops."""

    def part(now: bool, before: bool) -> dict[str, Any]:
        chosen = [cell for cell in cells if cell.hit == now and cell.was_hit == before]
        counted = _counted(chosen)
        return {
            "payments": sum(cell.payments for cell in chosen),
            "amount": sum(cell.amount for cell in chosen),
            "precision": _rate(_sum(counted, _frauds), _sum(counted, _payment_count)),
            "frauds": _sum(chosen, _frauds),
            "fraud_amount": _fraud_amount(chosen),
        }

    return {"both": part(True, True), "added": part(True, False), "dropped": part(False, True)}


def _bucket(cells: Sequence[Cell]) -> dict[str, Any]:
    """Payments that are apart: hits among them, with the labels that there are."""
    hits = [cell for cell in cells if cell.hit]
    labelled = [cell for cell in hits if cell.label != "unknown"]
    frauds = sum(cell.payments for cell in labelled if cell.label == "fraud")
    return {
        "payments": sum(cell.payments for cell in cells),
        "hits": sum(cell.payments for cell in hits),
        "precision": _rate(frauds, sum(cell.payments for cell in labelled)),
    }


def _by_day(hits: Sequence[Cell], changes: Callable[[Cell], bool], first: date, days: int) -> list[dict[str, Any]]:
    table = [
        {"day": (first + timedelta(days=n)).isoformat(), "hits": 0, "marginal": 0, "frauds": 0} for n in range(days)
    ]
    for cell in hits:
        row: dict[str, Any] = table[(cell.day - first).days]
        row["hits"] += cell.payments
        row["marginal"] += cell.payments if changes(cell) else 0
        row["frauds"] += _frauds(cell)
    return table


# Of which payments there are examples. A missed fraud is one that neither the rule, nor the model, nor another live
# rule acts upon.
_KINDS: dict[str, Callable[[Cell], bool]] = {
    "frauds": lambda cell: cell.hit and cell.is_fraud,
    "legitimate": lambda cell: cell.hit and cell.counts and not cell.is_fraud,
    "missed": lambda cell: not cell.hit and cell.is_fraud and not cell.is_acted_on,
}


def _examples(plan: Plan, cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Up to twenty payments of each kind, drawn by a hash of their ids: the same ones each time."""
    names = shown_names(plan)

    def drawn(chosen: Callable[[Cell], bool]) -> list[dict[str, Any]]:
        rows = (row for cell in cells if chosen(cell) for row in cell.examples)
        return [
            dict(zip(names[1:], row[1:], strict=True)) for row in heapq.nlargest(EXAMPLES, rows, lambda row: row[0])
        ]

    return {kind: drawn(is_kind) for kind, is_kind in _KINDS.items()}


def _notes(plan: Plan, cells: Sequence[Cell]) -> list[str]:
    """What to know before one believes the numbers."""
    payments = _payments(cells)
    notes = []
    if payments["without_score"]:
        notes.append(
            f"{payments['without_score']:,} payments have no score: conditions on it are unknown there, and the model"
            " counts as approving them; make score-examples scores them"
        )
    if payments["learned_from"]:
        notes.append(
            f"{payments['learned_from']:,} payments are of the period that the model learned from; scores there flatter"
            " the model"
        )
    if payments["unknown_labels"]:
        notes.append(f"{payments['unknown_labels']:,} payments have not matured: whether they are frauds is unknown")
    if payments["declined"]:
        notes.append(f"{payments['declined']:,} payments were declined and count in no precision or recall")
    if payments["without_exchange_rate"]:
        notes.append(f"{payments['without_exchange_rate']:,} payments have no exchange rate, and are in no amount")
    recorded, here = (sum(getattr(cell, name) for cell in cells) for name in ("recorded", "recorded_hits"))
    if recorded != here:
        notes.append(
            f"{recorded - here:,} of {recorded:,} hits that serving recorded are none here: lists have changed"
        )
    if any(rule.expression.lists for rule in plan.rules) and payments["from_history"]:
        notes.append("in history, list membership is as of the payment's own time, and lists are newer than that")
    return notes

"""Rules that a shallow decision tree finds in payments that nothing acted upon: paths to nodes, as editable SQL. Pure.

A tree of depth 3 is fitted, its best node becomes a rule of at most three conditions, the payments that the rule covers
are taken away, and the next tree is fitted to the rest (sequential covering; Fürnkranz, 1999: Separate-and-conquer rule
learning). Thresholds are rounded, so that a person reads them; what a rule is worth is counted afterwards, as written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rules.backtest.report import wilson
from rules.catalogue import CATALOGUE
from rules.language import Expression, parse
from sklearn.tree import DecisionTreeClassifier

MAX_DEPTH = 3
# A rule that covers fewer frauds has learned single cases.
MIN_FRAUDS = 5
# More candidates than are shown, since most don't hold up on later days.
CANDIDATES = 10
SHOWN = 5
SIGNIFICANT_DIGITS = 3
# Identifiers of a payment are for lists; a sum in mixed currencies says little; the tier is in the score.
_LEFT_OUT = {"amount"}

# Where a value is unknown, the tree sees less than any number. SQL's comparison is not true then; the count shows it.
_UNKNOWN = -1e30

NAMES: tuple[str, ...] = tuple(
    name.name for name in CATALOGUE.values() if name.type in ("number", "boolean") and name.name not in _LEFT_OUT
)


@dataclass(frozen=True, slots=True)
class Missed:
    """Payments that were approved and not queued, n of them.

    Attributes:
        values: of NAMES, shape (n, len(NAMES)); booleans are 0 or 1, unknown is not-a-number.
        is_fraud: the matured label.
        weight: how many payments this one represents, since not all legitimate ones are read.
    """

    values: NDArray[np.float64]
    is_fraud: NDArray[np.bool_]
    weight: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> "Missed":
        """Those that a mask selects."""
        return Missed(self.values[chosen], self.is_fraud[chosen], self.weight[chosen])


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a number, or a boolean: `more` is above the threshold, else at most it."""

    name: str
    more: bool
    threshold: float

    @property
    def text(self) -> str:
        """In the rule language."""
        if CATALOGUE[self.name].type == "boolean":
            return self.name if self.more else f"not {self.name}"
        return f"{self.name} {'>' if self.more else '<='} {_plain(self.threshold)}"

    def holds(self, missed: Missed) -> NDArray[np.bool_]:
        """For which payments it is true; it is not where the value is unknown."""
        values = missed.values[:, NAMES.index(self.name)]
        with np.errstate(invalid="ignore"):
            above: NDArray[np.bool_] = values > self.threshold
            return above if self.more else ~above & ~np.isnan(values)


@dataclass(frozen=True, slots=True)
class Worth:
    """What a rule hits in a period, among the payments that nothing acted upon; amounts in the reference currency."""

    frauds: int
    legitimate: int
    amount_of_frauds: float

    @property
    def hits(self) -> int:
        """All of them."""
        return self.frauds + self.legitimate

    @property
    def precision(self) -> float:
        """The share of frauds; 0 without a hit."""
        return self.frauds / self.hits if self.hits else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Of the precision, at 95 %."""
        return wilson(self.frauds, self.hits) if self.hits else (0.0, 1.0)

    def value(self, challenge_cost: float) -> float:
        """What it is worth to challenge them: frauds cost nothing then, and each payment a challenge."""
        return self.amount_of_frauds - self.hits * challenge_cost


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule, what it hits in the days that it was learned from, and in the later ones."""

    expression: Expression
    learned: Worth
    later: Worth

    def holds_up(self, share_of_frauds: float, challenge_cost: float) -> bool:
        """Whether it is worth a look: on the later days it is clearly better than chance, and worth its challenges.

        Args:
            share_of_frauds: among all payments of the later days that nothing acted upon.
        """
        low, _ = self.later.interval
        return self.later.frauds > 0 and low > share_of_frauds and self.later.value(challenge_cost) > 0


def candidates(missed: Missed, seed: int) -> list[Expression]:
    """Rules for the frauds among the payments, the best first; none if there are too few of them.

    Args:
        seed: of the tree, which draws between equally good splits.
    """
    found: list[Expression] = []
    while len(found) < CANDIDATES and missed.is_fraud.sum() >= MIN_FRAUDS:
        path = _best_path(missed, seed)
        if not path:
            break
        covered = np.logical_and.reduce([condition.holds(missed) for condition in path])
        if not covered[missed.is_fraud].any():
            break
        found.append(parse(" and ".join(condition.text for condition in path)))
        missed = missed.where(~covered)
    return found


def best(suggestions: Sequence[Suggestion], share_of_frauds: float, challenge_cost: float) -> list[Suggestion]:
    """Those that hold up on the later days, the most valuable first, at most SHOWN."""
    good = [each for each in suggestions if each.holds_up(share_of_frauds, challenge_cost)]
    return sorted(good, key=lambda each: -each.later.value(challenge_cost))[:SHOWN]


def _best_path(missed: Missed, seed: int) -> list[Condition]:
    """The conditions of the best node, inner ones too; empty if no node is better than all payments together.

    The best one has the largest product of its frauds and its precision, by the lower end of the interval. The most
    precise one would be the best of seventy random divisions, which finds few frauds, and by chance few others.
    """
    tree = DecisionTreeClassifier(max_depth=MAX_DEPTH, min_samples_leaf=MIN_FRAUDS, random_state=seed)
    filled = np.nan_to_num(missed.values, nan=_UNKNOWN)
    tree.fit(filled, missed.is_fraud, sample_weight=missed.weight)
    # For each payment, the nodes that it passes.
    passes = tree.decision_path(filled)
    frauds = passes.T @ missed.is_fraud.astype(float)
    payments = passes.T @ missed.weight
    lowest = {
        node: wilson(frauds[node], payments[node])[0] for node in range(1, len(frauds)) if frauds[node] >= MIN_FRAUDS
    }
    better = [node for node in lowest if lowest[node] > frauds[0] / payments[0]]
    if not better:
        return []
    chosen = max(better, key=lambda node: frauds[node] * lowest[node])
    return _merged(_paths(tree)[chosen])


def _paths(tree: DecisionTreeClassifier) -> dict[int, list[Condition]]:
    """The conditions from the root to each node."""
    nodes = tree.tree_
    paths: dict[int, list[Condition]] = {}
    waiting: list[tuple[int, list[Condition]]] = [(0, [])]
    while waiting:
        node, path = waiting.pop()
        paths[node] = path
        if nodes.children_left[node] == nodes.children_right[node]:
            continue
        name, threshold = NAMES[nodes.feature[node]], float(nodes.threshold[node])
        waiting.append((nodes.children_left[node], [*path, Condition(name, False, threshold)]))
        waiting.append((nodes.children_right[node], [*path, Condition(name, True, threshold)]))
    return paths


def _merged(path: Sequence[Condition]) -> list[Condition]:
    """One condition for each name and direction, the strictest, in the order of their first; rounded."""
    strictest: dict[tuple[str, bool], Condition] = {}
    for condition in path:
        key = (condition.name, condition.more)
        known = strictest.get(key)
        if known is None or (condition.threshold > known.threshold) == condition.more:
            strictest[key] = condition
    return [Condition(each.name, each.more, _rounded(each)) for each in strictest.values()]


def _rounded(condition: Condition) -> float:
    """To a few significant digits; of a boolean, its middle."""
    if (
        CATALOGUE[condition.name].type == "boolean"
        or condition.threshold == 0
        or not math.isfinite(condition.threshold)
    ):
        return condition.threshold
    digits = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(condition.threshold)))
    return round(condition.threshold, digits)


def _plain(number: float) -> str:
    """Without an exponent, which the rule language does not have."""
    return np.format_float_positional(number, trim="-")

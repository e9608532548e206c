"""What the starter rules are worth beside a model, in simulated worlds: without a stack, on matured labels.

python3 phase4-ml/bench/rule_value.py --seeds 42 1 --days 45 --users 20000

A history as that of `make up`, one training run, and the rules of rules/starter.yml on its holdout. Two tables for each
seed: what each rule finds, alone and beyond the model's tier high and the live rules that send payments to the queue;
and the recall at the same number of reviewed payments, of the model alone and with the rules. Progress is on stderr.
The lists of the starter set are empty, as on a fresh stack, so a rule that only looks into lists finds nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from features import DEVICE_TYPES, EPOCH
from fraud_common.errors import one_line_errors
from fraud_common.settings import load_settings
from numpy.typing import NDArray
from rules.facts import RulePayment, facts_of
from rules.language import Expression, parse
from rules.lists import ListValues
from rules.to_python import compile_rules
from simulated_history import History, make_dataset_and_rows, make_history
from tqdm import tqdm
from training.examples import Examples
from training.gold import print_progress
from training.settings import Settings
from training.train import fit_and_evaluate

STARTER = Path(__file__).resolve().parents[1] / "rules" / "starter.yml"
# Payments that are reviewed, as multiples of those that the rules and tier high send to the queue.
BUDGETS = (1.0, 1.25, 1.5, 2.0)
RESAMPLES = 2_000

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the starter file."""

    name: str
    expression: Expression
    answer: str
    queue: bool
    state: str

    @property
    def fills_queue(self) -> bool:
        """Whether its hits are reviewed."""
        return self.state == "live" and self.queue


def read_rules(file: Path) -> list[Rule]:
    """The rules of a starter file; exceptions, which find nothing, are left out.

    Raises:
        RuleError: an expression is not one.
    """
    content = yaml.safe_load(file.read_text())
    return [
        Rule(rule["name"], parse(rule["when"]), rule["answer"], rule["queue"], rule["state"])
        for rule in content["rules"]
        if rule.get("lane", "rule") == "rule"
    ]


def hits(
    rules: Sequence[Rule], history: History, rows: NDArray[np.int64], holdout: Examples, scores: Any, tiers: list[str]
) -> dict[str, Mask]:
    """Where each rule fires among the payments of the holdout, by the code that serves."""
    evaluate = compile_rules([rule.expression for rule in rules])
    found = np.zeros((len(rules), len(rows)), dtype=bool)
    lists = {name: ListValues() for rule in rules for _, name in rule.expression.lists}
    for place in tqdm(range(len(rows)), desc="rules", unit=" payments", unit_scale=True, disable=None):
        payment = payment_of(history, int(rows[place]))
        facts = facts_of(payment, holdout.matrix[place].tolist(), float(scores[place]), tiers[place], ())
        fired, threw = evaluate(facts, lists, payment.event_time)
        assert not threw, [rules[number].name for number in threw]
        found[fired, place] = True
    return {rule.name: found[number] for number, rule in enumerate(rules)}


def payment_of(history: History, row: int) -> RulePayment:
    """A payment of the history, as the simulator sends it."""
    own = history.payments
    shop, device = history.shops[int(own.merchant[row])], int(own.device[row])
    return RulePayment(
        amount=int(own.cents[row]) / 100,
        currency=shop.currency or None,
        country=shop.country or None,
        device_id=f"{device:016x}" if device else None,
        device_type=DEVICE_TYPES[own.device_type[row]],
        merchant_category=None,
        merchant_id=shop.merchant_id,
        user_id=history.users[int(own.user[row])],
        is_international=bool(history.is_international[row]),
        event_time=EPOCH + timedelta(milliseconds=int(own.event_ms[row])),
    )


def rule_table(rules: Sequence[Rule], found: dict[str, Mask], is_high: Mask, is_fraud: Mask, days: float) -> str:
    """Each rule alone, and beyond tier high and the other live rules that fill the queue."""
    lines = [
        "| rule | state | queue | hits a day | frauds | precision | marginal hits a day | marginal frauds |"
        " marginal precision |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rule in rules:
        own = found[rule.name]
        others = [found[other.name] for other in rules if other.fills_queue and other.name != rule.name]
        marginal = own & ~np.logical_or.reduce([is_high, *others])
        lines.append(
            f"| `{rule.name}` | {rule.state} | {'yes' if rule.queue else 'no'} | {own.sum() / days:.1f} |"
            f" {(own & is_fraud).sum():,} | {share(own & is_fraud, own)} | {marginal.sum() / days:.1f} |"
            f" {(marginal & is_fraud).sum():,} | {share(marginal & is_fraud, marginal)} |"
        )
    return "\n".join(lines)


def share(part: Mask, whole: Mask) -> str:
    """How many of the payments of a mask are in another, as text."""
    return f"{part.sum() / whole.sum():.1%}" if whole.any() else "–"


@dataclass(frozen=True, slots=True)
class Recall:
    """What two queues of the same length find of all frauds, and the interval of the difference."""

    reviewed: int
    model: float
    with_rules: float
    low: float
    high: float


def recall_at(reviewed: int, first: Mask, scores: NDArray[np.float64], holdout: Examples, seed: int) -> Recall:
    """The model's `reviewed` highest scores, against `first` filled up by score to as many.

    The interval is the 95 % of a paired bootstrap over users, since the frauds of one card are found together.
    """
    order = np.argsort(-scores, kind="stable")
    alone = np.zeros(len(scores), dtype=bool)
    alone[order[:reviewed]] = True
    filled = first.copy()
    rest = order[~first[order]]
    filled[rest[: reviewed - int(first.sum())]] = True
    frauds = holdout.is_fraud
    _, user = np.unique(holdout.user_id.astype(str), return_inverse=True)
    gained = np.bincount(user, frauds * (filled.astype(float) - alone))
    total = np.bincount(user, frauds.astype(float))
    of_frauds = total > 0
    drawn = np.random.default_rng(seed).poisson(1.0, (RESAMPLES, int(of_frauds.sum())))
    differences = drawn @ gained[of_frauds] / np.maximum(drawn @ total[of_frauds], 1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return Recall(reviewed, frauds[alone].sum() / frauds.sum(), frauds[filled].sum() / frauds.sum(), low, high)


def recall_table(first: Mask, scores: NDArray[np.float64], holdout: Examples, days: float, seed: int) -> str:
    """Recall at several numbers of reviewed payments."""
    lines = [
        "| reviewed a day | share of the payments | recall, model alone | recall, model and rules | difference |",
        "|---|---|---|---|---|",
    ]
    for budget in BUDGETS:
        found = recall_at(round(budget * first.sum()), first, scores, holdout, seed)
        lines.append(
            f"| {found.reviewed / days:.0f} | {found.reviewed / len(holdout):.2%} | {found.model:.4f} |"
            f" {found.with_rules:.4f} | {found.with_rules - found.model:+.4f} ({found.low:+.4f} to {found.high:+.4f}) |"
        )
    return "\n".join(lines)


def print_tables(settings: Settings, rules: Sequence[Rule], history: History) -> None:
    """Train on a history, and print what the rules add to the model."""
    dataset, rows = make_dataset_and_rows(settings, history)
    trained = fit_and_evaluate(settings, dataset)
    holdout, scores, thresholds = trained.holdout, trained.scores, trained.report.thresholds
    rows = rows[len(rows) - len(holdout) :]  # examples are ordered by time, and the holdout is the last period
    tiers = np.where(scores >= thresholds.high, "high", np.where(scores >= thresholds.medium, "medium", "low"))
    found = hits(rules, history, rows, holdout, scores, tiers.tolist())
    days = (dataset.split.end - dataset.split.holdout_start) / timedelta(days=1)
    is_high = tiers == "high"
    queue = np.logical_or.reduce([is_high, *(found[rule.name] for rule in rules if rule.fills_queue)])
    print(
        f"{trained.choice.candidate}; the holdout has {len(holdout):,} payments of {days:.1f} days with"
        f" {holdout.is_fraud.sum():,} known frauds. Tier high: {is_high.sum() / days:.0f} a day, precision"
        f" {share(is_high & holdout.is_fraud, is_high)}, recall {share(is_high & holdout.is_fraud, holdout.is_fraud)}\n"
    )
    print(rule_table(rules, found, is_high, holdout.is_fraud, days), end="\n\n")
    print(recall_table(queue, scores, holdout, days, settings.training_seed), end="\n\n", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make rules-value", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="of the simulator (default: 42)")
    parser.add_argument("--days", type=int, default=45, help="of the history (default: %(default)s)")
    parser.add_argument("--users", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--file", type=Path, default=STARTER, help="rules in the starter file's format")
    arguments = parser.parse_args()
    with one_line_errors():
        settings = load_settings(Settings)
        rules = read_rules(arguments.file)
        for seed in arguments.seeds:
            print_progress(f"seed {seed}: {arguments.days} days of {arguments.users:,} users")
            print(f"Seed {seed}, {arguments.days} days, {arguments.users:,} users. ", end="")
            print_tables(settings, rules, make_history(seed, arguments.users, arguments.days, "cards"))


if __name__ == "__main__":
    main()

"""What a backtest compares: the rule in question, the version that it changes, and everything else that is live."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fraud_common.errors import UserError

from rules.backtest.curve import SCORE, Curve, curve_of
from rules.backtest.request import Request
from rules.language import Expression, RuleError, parse


@dataclass(frozen=True, slots=True)
class Rule:
    """A version of a rule, or what would be one.

    Attributes:
        key: [rule_id, version]; None if it is not stored.
    """

    name: str
    expression: Expression
    lane: str = "rule"
    answer: str = "challenge"
    queue: bool = False
    key: tuple[int, int] | None = None

    @property
    def declines_by_list(self) -> bool:
        """As in rules/ruleset.py: no exception lets through what it declines."""
        return self.answer == "decline" and bool(self.expression.lists)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is evaluated on each payment.

    Attributes:
        candidate: the rule in question.
        before: what it changes; None: it is new.
        live: the other live rules and exceptions.
        curve: the candidate with other thresholds.
    """

    candidate: Rule
    before: Rule | None
    live: tuple[Rule, ...]
    curve: Curve | None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All of them."""
        return (self.candidate, *([self.before] if self.before else []), *self.live)

    @property
    def names(self) -> tuple[str, ...]:
        """All names that are read, in the order of their first use."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.expression.names))

    @property
    def lists(self) -> tuple[tuple[str, str], ...]:
        """All pairs of a name and a list that are read."""
        return tuple(dict.fromkeys(pair for rule in self.rules for pair in rule.expression.lists))


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A row of rule_versions, with the name of its rule."""

    rule_id: int
    version: int
    name: str
    state: str
    lane: str
    when: str
    answer: str
    queue: bool


def plan_of(request: Request, versions: Sequence[StoredVersion], document: Mapping[str, Any], now: datetime) -> Plan:
    """Resolve a request.

    Args:
        versions: those of the rules that the request names, the newest first.
        document: of the ruleset in force.
        now: exceptions that have ended by then count no more.

    Raises:
        UserError: there is no such rule or version.
        RuleError: the request's expression is not valid.
    """
    before: Rule | None = None
    if request.rule:
        own = _of_name(versions, request.rule)
        chosen = [each for each in own if request.version in (None, each.version)]
        if not chosen:
            raise UserError(f"rule {request.rule} has no version {request.version}; its newest is {own[0].version}")
        candidate = _stored(chosen[0])
        if not request.compare_to:
            before = next((_stored(e) for e in own if e.state == "live" and e.version != chosen[0].version), None)
    elif request.threshold is not None:
        # From this score on, instead of from that of the tier high.
        candidate = Rule(f"threshold {request.threshold:g}", parse(f"{SCORE} >= {request.threshold:f}"), queue=True)
        before = Rule("tier high", parse("risk_tier = 'high'"), queue=True)
    else:
        expression = parse(request.when or "")
        candidate = Rule("expression", expression, request.lane, request.answer, request.queue)
    if request.compare_to:
        others = _of_name(versions, request.compare_to)
        before = _stored(next((each for each in others if each.state == "live"), others[0]))
    tested = {rule.key[0] for rule in (candidate, before) if rule and rule.key}
    live = [
        _live(entry)
        for entry in document.get("rules", [])
        if entry["state"] == "live" and entry["rule_id"] not in tested and not _ended(entry, now)
    ]
    return Plan(candidate, before, tuple(live), curve_of(candidate.expression))


def _of_name(versions: Sequence[StoredVersion], name: str) -> list[StoredVersion]:
    found = [each for each in versions if each.name == name]
    if not found:
        raise UserError(f"there is no rule {name}: make rules lists those that there are")
    return found


def _stored(row: StoredVersion) -> Rule:
    try:
        expression = parse(row.when)
    except RuleError as error:
        raise UserError(f"version {row.version} of rule {row.name} can't be read by this release: {error}") from error
    return Rule(row.name, expression, row.lane, row.answer, row.queue, (row.rule_id, row.version))


def _live(entry: Mapping[str, Any]) -> Rule:
    try:
        expression = parse(entry["when"])
    except RuleError as error:
        raise UserError(f"live rule {entry['name']} can't be read by this release: {error}") from error
    return Rule(
        entry["name"],
        expression,
        entry["lane"],
        entry["answer"],
        bool(entry["queue"]),
        (int(entry["rule_id"]), int(entry["version"])),
    )


def _ended(entry: Mapping[str, Any], now: datetime) -> bool:
    if not (text := entry.get("expires_at")):
        return False
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= now

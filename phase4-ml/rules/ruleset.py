"""A ruleset as serving uses it: the rules of its document, compiled into one function.

Upstream is the table rulesets (rules/store.py writes it), through serving/ruleset_store.py; downstream is decide.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from rules.lists import ListValues

# More would cost more than 0.1 ms a payment, and as many more series in Prometheus.
MAX_RULES = 200

type Answer = Literal["approve", "challenge", "decline"]
ANSWERS: tuple[str, ...] = get_args(Answer.__value__)

# The values of the catalogue's names, in its order.
type Facts = Sequence[float | str | bool | None]
# Positions of rules that fire, and of those that raise.
type Evaluate = Callable[[Facts, Mapping[str, ListValues], datetime], tuple[list[int], list[int]]]


class RulesetError(ValueError):
    """Why a ruleset can't be used."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of a rule that is live or in shadow."""

    rule_id: int
    version: int
    name: str
    lane: Literal["rule", "exception"]
    state: Literal["live", "shadow"]
    answer: Answer
    queue: bool
    rollout_percent: int = 100
    expires_at: datetime | None = None
    # The lists that its condition reads.
    lists: frozenset[str] = frozenset()

    @property
    def key(self) -> list[int]:
        """How an audit row names it."""
        return [self.rule_id, self.version]

    @property
    def declines_by_list(self) -> bool:
        """Whether somebody has put those on a list whom it declines: no exception and no hold-out lets them through."""
        return self.answer == "decline" and bool(self.lists)


def _nothing_fires(facts: Facts, lists: Mapping[str, ListValues], at: datetime) -> tuple[list[int], list[int]]:
    return [], []


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Immutable: what a request pins. Without an id it is the one of a platform without rules."""

    ruleset_id: int | None = None
    rules: tuple[Rule, ...] = ()
    evaluate: Evaluate = _nothing_fires
    # As it is stored, for the copy on disk.
    document: Mapping[str, Any] = field(default_factory=lambda: {"rules": []})

    @property
    def lists(self) -> frozenset[str]:
        """The lists that its rules read."""
        return frozenset().union(*(rule.lists for rule in self.rules))

    @classmethod
    def of(cls, ruleset_id: int, document: Mapping[str, Any]) -> Self:
        """Compile a document.

        Raises:
            RulesetError: this release does not understand it, for example because a newer one wrote it.
        """
        # sqlglot takes memory and time to import: only processes that compile rules have it.
        from rules.language import RuleError, parse
        from rules.to_python import compile_rules

        entries = document.get("rules")
        if not isinstance(entries, list):
            raise RulesetError(f"ruleset {ruleset_id}: its document has no list of rules")
        if len(entries) > MAX_RULES:
            raise RulesetError(f"ruleset {ruleset_id}: {len(entries)} rules; there may be {MAX_RULES}")
        rules, expressions = [], []
        for entry in entries:
            try:
                expression = parse(entry["when"])
                rules.append(_rule(entry, frozenset(name for _, name in expression.lists)))
                expressions.append(expression)
            except (RuleError, KeyError, TypeError, ValueError) as error:
                name = entry.get("name") if isinstance(entry, dict) else None
                problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise RulesetError(f"ruleset {ruleset_id}: rule {name!r}: {problem}") from error
        return cls(ruleset_id, tuple(rules), compile_rules(expressions), document)


NO_RULES = Ruleset()


@dataclass(frozen=True, slots=True)
class InForce:
    """A ruleset with the lists that it reads, and the users for whom rules are suppressed, by the rule's id."""

    ruleset: Ruleset = NO_RULES
    lists: Mapping[str, ListValues] = field(default_factory=dict)
    suppressions: Mapping[int, ListValues] = field(default_factory=dict)

    def suppresses(self, rule: Rule, user_id: str, at: datetime) -> bool:
        """Whether a rule does not apply to a user at a moment."""
        users = self.suppressions.get(rule.rule_id)
        return users is not None and users.has(user_id, at)


def _rule(entry: Mapping[str, Any], lists: frozenset[str]) -> Rule:
    for name, allowed in (("lane", ("rule", "exception")), ("state", ("live", "shadow")), ("answer", ANSWERS)):
        if entry[name] not in allowed:
            raise RulesetError(f"{name} {entry[name]!r} is none of {', '.join(allowed)}")
    expires_at = entry.get("expires_at")
    return Rule(
        rule_id=int(entry["rule_id"]),
        version=int(entry["version"]),
        name=str(entry["name"]),
        lane=entry["lane"],
        state=entry["state"],
        answer=entry["answer"],
        queue=bool(entry["queue"]),
        rollout_percent=int(entry["rollout_percent"]),
        expires_at=_moment(expires_at) if expires_at else None,
        lists=lists,
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

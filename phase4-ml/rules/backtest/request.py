"""What a backtest is asked for: a rule, an expression or a threshold of the model, over some days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

from fraud_common.errors import UserError

DEFAULT_DAYS = 30
MOST_DAYS = 3650
ANSWERS = ("approve", "challenge", "decline")
FIELDS = (
    "rule", "version", "when", "threshold", "days", "from", "to", "compare_to", "answer", "queue", "lane"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """Exactly one of `rule`, `when` and `threshold` is given.

    Attributes:
        rule: the name of a rule; its newest version, or `version`.
        version: of the rule.
        when: a condition of the rule language.
        threshold: a score from which on the model would have payments reviewed.
        begin: the first day, in UTC; None: as many days before `end` as `days` says.
        end: the last day, in UTC; None: the newest one whose labels have matured.
        days: how many days, where `begin` is not given.
        compare_to: the name of the rule that this one changes.
        answer: of `when`, which has none of its own.
        queue: likewise.
        lane: likewise: rule or exception.
    """

    rule: str | None = None
    version: int | None = None
    when: str | None = None
    threshold: float | None = None
    begin: date | None = None
    end: date | None = None
    days: int = DEFAULT_DAYS
    compare_to: str | None = None
    answer: str = "challenge"
    queue: bool = False
    lane: str = "rule"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """A request as it is stored, or as the API has it.

        Raises:
            UserError: it names the field and what it must be.
        """
        if unknown := sorted(set(fields) - set(FIELDS)):
            raise UserError(f"a backtest has no field {unknown[0]!r}; it has {', '.join(FIELDS)}")
        given = {name: value for name, value in fields.items() if value is not None}
        what = [name for name in ("rule", "when", "threshold") if name in given]
        if len(what) != 1:
            found = " and ".join(what) or "none"
            raise UserError(f"a backtest needs exactly one of rule, when and threshold; this one has {found}")
        begin, end = _day(given, "from"), _day(given, "to")
        days = _number(given, "days", DEFAULT_DAYS, 1, MOST_DAYS)
        if begin and end and not 0 <= (end - begin).days < MOST_DAYS:
            raise UserError(f"from {begin} to {end} is not 1 to {MOST_DAYS} days")
        if "version" in given and "rule" not in given:
            raise UserError("version is that of a rule; rule is not given")
        return cls(
            rule=_text(given, "rule"),
            version=int(_number(given, "version", 1, 1, 2**31 - 1)) if "version" in given else None,
            when=_text(given, "when"),
            threshold=_number(given, "threshold", 0.0, 0.0, 1.0) if "threshold" in given else None,
            begin=begin,
            end=end,
            days=int(days),
            compare_to=_text(given, "compare_to"),
            answer=_choice(given, "answer", ANSWERS, "challenge"),
            queue=_truth(given, "queue", default="threshold" in given),
            lane=_choice(given, "lane", ("rule", "exception"), "rule"),
        )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UserError(f"{name} is {value!r}; it must be a text")
    return value


def _number(given: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name} is {value!r}; it must be a number from {low} to {high}")
    if isinstance(default, int) and value != int(value):
        raise UserError(f"{name} is {value!r}; it must be a whole number")
    return value


def _day(given: Mapping[str, Any], name: str) -> date | None:
    value = given.get(name)
    if value is None or (isinstance(value, date) and type(value) is date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise UserError(f"{name} is {value!r}; it must be a day, such as 2026-11-27") from None


def _choice(given: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = given.get(name, default)
    if value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    return value


def _truth(given: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}; it must be true or false")
    return value

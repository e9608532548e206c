"""Requests and answers of the API of rules, for its OpenAPI document, with examples that work when pasted."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    WithJsonSchema,
    model_validator,
)
from serving.schemas import InvalidField, moment_of

from rules.backtests_table import Backtest
from rules.lists_table import Entry, List
from rules.rulesets import Ruleset
from rules.scorecard import Scorecard
from rules.store import Event, Version
from rules.suppressions import Suppression

# As in the checks of the tables.
NAME_PATTERN = "^[a-z0-9][a-z0-9-]{0,63}$"
_LINE = r"[^\x00-\x1f\x7f-\x9f]"
# No blanks at the ends, as in ids: two values that look the same would be two.
VALUE_PATTERN = rf"^[^\x00-\x1f\x7f-\x9f ]({_LINE}{{0,254}}[^\x00-\x1f\x7f-\x9f ])?$"
BIGINT = 2**63 - 1
MAX_VALUES_AT_ONCE = 1000
# Of a backtest; as rules/backtest/request.py has it.
MOST_DAYS = 400


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 2.0 is 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _day(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError("must be a string like 2026-11-27")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a day, such as 2026-11-27") from None


Name = Annotated[
    str,
    Field(pattern=NAME_PATTERN, description="Lower-case letters, digits and dashes, at most 64 characters."),
]
Owner = Annotated[str, Field(pattern=rf"^{_LINE}{{1,64}}$", description="The team or person to ask about it.")]
Note = Annotated[
    str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]{0,2000}$", description="What it finds, and why it is there.")
]
Reason = Annotated[str, Field(pattern=rf"^{_LINE}{{0,500}}$", description="Why; the history has it.")]
Value = Annotated[str, Field(pattern=VALUE_PATTERN)]
Answer = Literal["approve", "challenge", "decline"]
RolloutPercent = Annotated[
    int,
    Field(strict=True, ge=1, le=100, description="For so many of 100 users, always the same ones."),
    BeforeValidator(_whole),
]
Number = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1), BeforeValidator(_whole)]
EntryId = Annotated[int, Field(strict=True, ge=1, le=BIGINT), BeforeValidator(_whole)]
Days = Annotated[int, Field(strict=True, ge=1, le=MOST_DAYS), BeforeValidator(_whole)]
Moment = Annotated[datetime, PlainValidator(moment_of), WithJsonSchema({"type": "string", "format": "date-time"})]
Day = Annotated[date, PlainValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
When = Annotated[
    str,
    Field(
        description="The condition, in the rule language (docs/rules.md), at most 2,000 characters.",
        json_schema_extra={"minLength": 1, "maxLength": 2000},
    ),
]

RULE_EXAMPLE: dict[str, Any] = {
    "when": "is_new_device_30d and amount > 500 and fraud_probability > 0.05",
    "answer": "challenge",
    "queue": True,
    "owner": "fraud-ops",
    "note": "The first payment with a device, of a high amount.",
}
EXCEPTION_EXAMPLE: dict[str, Any] = {
    "lane": "exception",
    "when": "merchant_id = 'M001' and amount <= 100",
    "answer": "approve",
    "owner": "fraud-ops",
    "expires_at": "2099-01-01T00:00:00Z",
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(examples)})


class VersionRequest(_Request):
    """What a version of a rule says; it never changes."""

    model_config = _examples(RULE_EXAMPLE | {"rollout_percent": 50}, EXCEPTION_EXAMPLE)

    lane: Literal["rule", "exception"] = Field(
        default="rule", description="An exception lowers the decision of model and rules; it must expire."
    )
    when: When
    answer: Answer
    queue: StrictBool = Field(default=False, description="Whether an analyst looks at the payment afterwards.")
    owner: Owner
    note: Note = ""
    rollout_percent: RolloutPercent = 100
    expires_at: Moment | None = Field(default=None, description="From then on it does not fire any more.")
    reason: Reason = ""


class RuleRequest(VersionRequest):
    """A new rule, as a draft."""

    model_config = _examples(
        {"name": "high-amount-on-a-new-device"} | RULE_EXAMPLE, {"name": "small-payments-at-m001"} | EXCEPTION_EXAMPLE
    )

    name: Name


class ValidateRequest(_Request):
    """A condition to check, and what it is for: an exception, or an answer that declines, needs more of its lists."""

    model_config = _examples({"when": "amount > 500 and is_night"})

    when: When
    lane: Literal["rule", "exception"] = "rule"
    answer: Answer = "challenge"


class ActionRequest(_Request):
    """Which version, and why."""

    model_config = _examples({"version": 1, "reason": "It fires far too often since this morning."})

    version: Number
    reason: Reason = ""


class ApproveRequest(ActionRequest):
    """Which version is to be in force, and how."""

    model_config = _examples({"version": 1, "to": "shadow", "reason": "Let us see what it finds."})

    to: Literal["shadow", "live"] = Field(description="shadow: it is evaluated and counted, but does not decide.")


class SuppressionRequest(_Request):
    """For which user a rule does not fire, until when, and why."""

    model_config = _examples(
        {"user_id": "U1234", "valid_to": "2099-01-01T00:00:00Z", "reason": "The customer called from abroad."}
    )

    user_id: Value
    valid_to: Moment
    reason: Reason = ""


class ListRequest(_Request):
    """A new, empty list."""

    model_config = _examples({"name": "watched-users", "about": "user_id", "note": "Users to look at."})

    name: Name
    about: str = Field(description="The text name of the rule language whose values it has, such as user_id.")
    note: Note = ""
    needs_approval: StrictBool = Field(
        default=True,
        description="Whether an entry counts only when another person has approved it. A list without can't be used by "
        "rules that decline, nor by exceptions; only an approver can make one.",
    )


class EntriesRequest(_Request):
    """Values to put on a list."""

    model_config = _examples({"values": ["U1234", "U1235"], "reason": "Cards that were reported stolen."})

    values: list[Value] = Field(min_length=1, max_length=MAX_VALUES_AT_ONCE)
    valid_from: Moment | None = Field(default=None, description="At once, if it is not given; never in the past.")
    valid_to: Moment | None = Field(default=None, description="Never, if it is not given.")
    reason: Reason = ""


class EntryIdsRequest(_Request):
    """Entries of a list to approve."""

    model_config = _examples({"entry_ids": [1, 2]})

    entry_ids: list[EntryId] = Field(min_length=1, max_length=MAX_VALUES_AT_ONCE)


class EndRequest(EntryIdsRequest):
    """Entries of a list to end."""

    model_config = _examples({"entry_ids": [1], "reason": "The customer has a new card."})

    reason: Reason = ""


class RestoreRequest(_Request):
    """Why an older ruleset is put in force again."""

    model_config = _examples({"reason": "Back to the rules of yesterday."})

    reason: Reason = ""


class BacktestRequest(_Request):
    """What to try over history: a version of a rule, a condition that is no rule yet, or a threshold of the model."""

    model_config = ConfigDict(
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={
            "examples": [
                {"when": "amount > 500 and is_new_device_30d", "answer": "challenge", "days": 30},
                {"threshold": 0.3, "days": 7},
            ]
        },
    )

    rule: Name | None = None
    version: Number | None = Field(default=None, description="Of the rule; the newest, if it is not given.")
    when: When | None = None
    threshold: float | None = Field(
        default=None, strict=True, ge=0, le=1, allow_inf_nan=False, description="Of fraud_probability."
    )
    compare_to: Name | None = Field(default=None, description="The rule that the condition would change.")
    answer: Answer | None = Field(default=None, description="Of the condition; challenge, if it is not given.")
    queue: StrictBool | None = Field(default=None, description="Of the condition or the threshold.")
    lane: Literal["rule", "exception"] | None = Field(default=None, description="Of the condition.")
    days: Days | None = Field(default=None, description="So many days; 30, if there is no from.")
    begin: Day | None = Field(default=None, alias="from", description="The first day, in UTC, instead of days.")
    end: Day | None = Field(
        default=None, alias="to", description="The last day, in UTC; else the newest one whose labels have matured."
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum(each is not None for each in (self.rule, self.when, self.threshold)) != 1:
            raise ValueError("give one of rule, when and threshold")
        if self.rule is None and self.version is not None:
            raise ValueError("version is that of a rule; give rule as well")
        if self.begin and self.days:
            raise ValueError("give days or from, not both")
        if self.begin and self.end and not 0 <= (self.end - self.begin).days < MOST_DAYS:
            raise ValueError(f"from and to are not a period of 1 to {MOST_DAYS} days")
        return self

    def fields(self) -> dict[str, Any]:
        """What was given, as it is stored."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# With the schemas of FastAPI, which does not see them: serving/bodies.py parses the bytes.
REQUESTS: list[type[BaseModel]] = [
    RuleRequest, VersionRequest, ValidateRequest, ActionRequest, ApproveRequest, SuppressionRequest, ListRequest,
    EntriesRequest, EntryIdsRequest, EndRequest, RestoreRequest, BacktestRequest,
]  # fmt: skip


class ChangeAnswer(BaseModel):
    """A version after an action."""

    version: Version
    ruleset_id: int | None = Field(
        description="The ruleset that has the change; answers to payments name the one that decided. null: the "
        "change is of nothing that is in force."
    )


class RulesAnswer(BaseModel):
    """Versions of rules."""

    rules: list[Version]


class RuleAnswer(BaseModel):
    """A rule with all its versions, the newest first."""

    name: str
    versions: list[Version]
    suppressions: list[Suppression]
    scorecards: list[Scorecard]


class HistoryAnswer(BaseModel):
    """What happened to a rule, the newest first."""

    events: list[Event]


class ValidAnswer(BaseModel):
    """What a condition reads. One that is wrong is answered with 422, as when a rule is written."""

    names: list[str]
    lists: list[str]


class ListsAnswer(BaseModel):
    """All lists."""

    lists: list[List]


class EntriesAnswer(BaseModel):
    """Entries of a list."""

    entries: list[Entry]


class RulesetsAnswer(BaseModel):
    """Rulesets, the newest first."""

    rulesets: list[Ruleset]


class RulesetAnswer(BaseModel):
    """A ruleset with its rules."""

    ruleset: Ruleset
    document: dict[str, Any]


class RestoredAnswer(BaseModel):
    """The new ruleset, which has the rules of the older one."""

    ruleset_id: int


class BacktestsAnswer(BaseModel):
    """Backtests, the newest first."""

    backtests: list[Backtest]


class BacktestAnswer(BaseModel):
    """A backtest; its report once it is done (docs/rules.md explains it)."""

    backtest: Backtest
    report: dict[str, Any] | None


class InvalidRuleField(InvalidField):
    """One thing that is wrong with the request; of a condition, also the place in it."""

    line: int | None = None
    column: int | None = None
    excerpt: str | None = None


class InvalidRuleAnswer(BaseModel):
    """The answer to bad input."""

    detail: list[InvalidRuleField]

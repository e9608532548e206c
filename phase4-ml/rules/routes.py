"""The API of rules: /rules, /lists, /rulesets, /backtests and /replay, each for people with a key of their own.

serving/middleware.py has checked the key; here, each request says which role it needs. What is asked of Postgres runs
in threads of rules/database.py, so a slow or stopped Postgres is a 503 here, and nothing to scoring.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Path, Query, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from psycopg2.extensions import cursor as Cursor
from pydantic import BaseModel
from serving.bodies import read_object
from serving.openapi import body_of
from serving.replay import replay_prediction
from serving.schemas import Refusal
from serving.settings import Settings
from starlette.routing import Route

from rules import backtests_table, lists_table, rulesets, store, suppressions
from rules.access import Person, Role
from rules.database import RulesDatabase, UnavailableError
from rules.lists_table import Entry, List
from rules.refusals import ConflictError, ForbiddenError, InvalidError, NotFoundError
from rules.replay import Replay, ReplayError
from rules.schemas import (
    BIGINT,
    NAME_PATTERN,
    VALUE_PATTERN,
    ActionRequest,
    ApproveRequest,
    BacktestAnswer,
    BacktestRequest,
    BacktestsAnswer,
    ChangeAnswer,
    EndRequest,
    EntriesAnswer,
    EntriesRequest,
    EntryIdsRequest,
    HistoryAnswer,
    InvalidRuleAnswer,
    ListRequest,
    ListsAnswer,
    RestoredAnswer,
    RestoreRequest,
    RuleAnswer,
    RuleRequest,
    RulesAnswer,
    RulesetAnswer,
    RulesetsAnswer,
    SuppressionRequest,
    ValidAnswer,
    ValidateRequest,
    VersionRequest,
)
from rules.scorecard import get_scorecards
from rules.states import State
from rules.store import Change, Content, Version
from rules.suppressions import Suppression

STATUSES: dict[type[Exception], int] = {
    ForbiddenError: 403,
    NotFoundError: 404,
    ReplayError: 404,
    ConflictError: 409,
    UnavailableError: 503,
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "The key is missing, or no person's."},
    403: {"model": Refusal, "description": "The person's role is too low, or another person has to do this."},
    404: {"model": Refusal, "description": "There is nothing of this name or number; the message has similar names."},
    408: {"model": Refusal, "description": "The request did not arrive in time."},
    409: {"model": Refusal, "description": "Its state does not allow this; the message says what is possible."},
    413: {"model": Refusal, "description": "The request is too large."},
    422: {
        "model": InvalidRuleAnswer,
        "description": "A field is wrong: `loc` names it, `line` and `column` the place.",
    },
    503: {"model": Refusal, "description": "Postgres does not answer. Scoring is not affected; try again later."},
}
_key = Security(APIKeyHeader(name="X-API-Key", scheme_name="Key of a person", auto_error=False))
router = APIRouter(responses=ANSWERS, dependencies=[_key])

RuleName = Annotated[str, Path(pattern=NAME_PATTERN)]
Id = Annotated[int, Path(ge=1, le=BIGINT)]
Before = Annotated[int | None, Query(ge=1, le=BIGINT, description="Only those before this one: the next page.")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def install(app: FastAPI, settings: Settings) -> None:
    """Give an application these routes, and its answers to what they refuse."""
    app.state.rules_settings = settings
    app.state.rules_database = RulesDatabase(settings)
    app.state.rules_replays = asyncio.Lock()
    app.include_router(router)
    for error in STATUSES:
        app.add_exception_handler(error, _refused)
    app.add_exception_handler(InvalidError, _invalid)
    app.add_exception_handler(405, _not_allowed)


# ---------- rules


@router.get("/rules", tags=["rules"])
async def get_rules(request: Request, state: State | None = None) -> RulesAnswer:
    """All versions that are not retired, or those in one state. Of a rule that is retired, the newest version."""
    _person(request, Role.VIEWER)
    return RulesAnswer(rules=await _run(request, lambda cursor: store.list_versions(cursor, state)))


@router.post("/rules", tags=["rules"], status_code=201, openapi_extra=body_of(RuleRequest))
async def post_rule(request: Request) -> Version:
    """Write a new rule: its version 1, as a draft."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, RuleRequest)
    return await _run(
        request, lambda cursor: store.create_rule(cursor, body.name, _content(body), person.name, body.reason)
    )


@router.post("/rules/validate", tags=["rules"], openapi_extra=body_of(ValidateRequest))
async def post_validate(request: Request) -> ValidAnswer:
    """Check a condition and its lists, without writing anything."""
    _person(request, Role.VIEWER)
    body = await _body(request, ValidateRequest)
    expression = await _run(request, lambda cursor: store.check_condition(cursor, body.when, body.answer, body.lane))
    return ValidAnswer(names=list(expression.names), lists=[name for _, name in expression.lists])


@router.get("/rules/{name}", tags=["rules"])
async def get_rule(request: Request, name: RuleName) -> RuleAnswer:
    """A rule with all its versions, the users for whom it does not fire, and scorecards of what it did."""
    _person(request, Role.VIEWER)

    def read(cursor: Cursor) -> RuleAnswer:
        versions = store.versions_of(cursor, name)
        return RuleAnswer(
            name=name,
            versions=versions,
            suppressions=suppressions.get_suppressions(cursor, name),
            scorecards=get_scorecards(cursor, name),
        )

    return await _run(request, read)


@router.get("/rules/{name}/history", tags=["rules"])
async def get_history(request: Request, name: RuleName) -> HistoryAnswer:
    """What happened to a rule, when, by whom and why, the newest first."""
    _person(request, Role.VIEWER)
    return HistoryAnswer(events=await _run(request, lambda cursor: store.history(cursor, name)))


@router.post("/rules/{name}/versions", tags=["rules"], status_code=201, openapi_extra=body_of(VersionRequest))
async def post_version(request: Request, name: RuleName) -> Version:
    """Write the next version of a rule, as a draft; the others stay as they are."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, VersionRequest)
    return await _run(request, lambda cursor: store.add_version(cursor, name, _content(body), person.name, body.reason))


@router.post("/rules/{name}/submit", tags=["rules"], openapi_extra=body_of(ActionRequest))
async def post_submit(request: Request, name: RuleName) -> ChangeAnswer:
    """Ask for the approval of a draft, or of a version that was paused."""
    return await _act(request, name, Role.AUTHOR, store.submit)


@router.post("/rules/{name}/approve", tags=["rules"], openapi_extra=body_of(ApproveRequest))
async def post_approve(request: Request, name: RuleName) -> ChangeAnswer:
    """Put a version in force, as shadow or live; another person than its author does this (RULES_FOUR_EYES)."""
    person = _person(request, Role.APPROVER)
    body = await _body(request, ApproveRequest)
    four_eyes = _settings(request).rules_four_eyes
    return _change(
        await _run(
            request,
            lambda cursor: store.approve(
                cursor, name, body.version, body.to, person.name, body.reason, four_eyes=four_eyes
            ),
        )
    )


@router.post("/rules/{name}/reject", tags=["rules"], openapi_extra=body_of(ActionRequest))
async def post_reject(request: Request, name: RuleName) -> ChangeAnswer:
    """Make a draft again of a version that was submitted; for approvers, and for its author."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, ActionRequest)
    return _change(await _run(request, lambda cursor: store.reject(cursor, name, body.version, person, body.reason)))


@router.post("/rules/{name}/pause", tags=["rules"], openapi_extra=body_of(ActionRequest))
async def post_pause(request: Request, name: RuleName) -> ChangeAnswer:
    """Take a version out of force at once; it can be submitted again."""
    return await _act(request, name, Role.APPROVER, store.pause)


@router.post("/rules/{name}/retire", tags=["rules"], openapi_extra=body_of(ActionRequest))
async def post_retire(request: Request, name: RuleName) -> ChangeAnswer:
    """End a version for good."""
    return await _act(request, name, Role.APPROVER, store.retire)


@router.post("/rules/{name}/suppressions", tags=["rules"], status_code=201, openapi_extra=body_of(SuppressionRequest))
async def post_suppression(request: Request, name: RuleName) -> Suppression:
    """Keep a rule from firing for one user, until a time."""
    person = _person(request, Role.APPROVER)
    body = await _body(request, SuppressionRequest)
    most = _settings(request).rules_max_list_entries
    return await _run(
        request,
        lambda cursor: suppressions.suppress(
            cursor, name, body.user_id, body.valid_to, person.name, body.reason, most=most
        ),
    )


@router.post("/rules/{name}/suppressions/{suppression_id}/end", tags=["rules"])
async def post_suppression_end(request: Request, name: RuleName, suppression_id: Id) -> Suppression:
    """Let a rule fire for a user again."""
    _person(request, Role.APPROVER)
    return await _run(request, lambda cursor: suppressions.end_suppression(cursor, name, suppression_id))


# ---------- lists


@router.get("/lists", tags=["lists"])
async def get_lists(request: Request) -> ListsAnswer:
    """All lists, with how many values they have, and how many wait for approval."""
    _person(request, Role.VIEWER)
    return ListsAnswer(lists=await _run(request, lists_table.get_lists))


@router.post("/lists", tags=["lists"], status_code=201, openapi_extra=body_of(ListRequest))
async def post_list(request: Request) -> List:
    """Make a new, empty list; it never changes what it is about."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, ListRequest)
    if not body.needs_approval:
        person.require(Role.APPROVER)
    return await _run(
        request,
        lambda cursor: lists_table.create_list(
            cursor, body.name, body.about, body.note, body.needs_approval, person.name
        ),
    )


@router.get("/lists/{name}/entries", tags=["lists"])
async def get_entries(
    request: Request,
    name: RuleName,
    value: Annotated[str | None, Query(pattern=VALUE_PATTERN, description="Only entries of this value.")] = None,
    before: Before = None,
    limit: Limit = 100,
) -> EntriesAnswer:
    """Entries of a list, the newest first; also those that have ended."""
    _person(request, Role.VIEWER)
    read = partial(lists_table.get_entries, name=name, value=value, before=before, limit=limit)
    return EntriesAnswer(entries=await _run(request, read))


@router.post("/lists/{name}/entries", tags=["lists"], status_code=201, openapi_extra=body_of(EntriesRequest))
async def post_entries(request: Request, name: RuleName) -> EntriesAnswer:
    """Put values on a list, all or none; where the list needs approval, they count once they have it."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, EntriesRequest)
    add = partial(
        lists_table.add_entries,
        name=name,
        values=body.values,
        by=person.name,
        reason=body.reason,
        valid_from=body.valid_from,
        valid_to=body.valid_to,
        most=_settings(request).rules_max_list_entries,
    )
    return EntriesAnswer(entries=await _run(request, add))


@router.post("/lists/{name}/entries/approve", tags=["lists"], openapi_extra=body_of(EntryIdsRequest))
async def post_entries_approve(request: Request, name: RuleName) -> EntriesAnswer:
    """Let entries count from now on, all or none; another person than the one who added them does this."""
    person = _person(request, Role.APPROVER)
    body = await _body(request, EntryIdsRequest)
    four_eyes = _settings(request).rules_four_eyes
    return await _entries(
        request,
        lambda cursor: lists_table.approve_entries(cursor, name, body.entry_ids, person.name, four_eyes=four_eyes),
    )


@router.post("/lists/{name}/entries/end", tags=["lists"], openapi_extra=body_of(EndRequest))
async def post_entries_end(request: Request, name: RuleName) -> EntriesAnswer:
    """Take entries off a list now, all or none; where the list needs approval, an approver does this."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, EndRequest)
    return await _entries(
        request, lambda cursor: lists_table.end_entries(cursor, name, body.entry_ids, person, body.reason)
    )


# ---------- rulesets


@router.get("/rulesets", tags=["rulesets"])
async def get_rulesets(request: Request, before: Before = None, limit: Limit = 100) -> RulesetsAnswer:
    """What was in force, the newest first."""
    _person(request, Role.VIEWER)
    return RulesetsAnswer(rulesets=await _run(request, lambda cursor: rulesets.list_rulesets(cursor, before, limit)))


@router.get("/rulesets/{ruleset_id}", tags=["rulesets"])
async def get_ruleset(request: Request, ruleset_id: Id) -> RulesetAnswer:
    """A ruleset with its rules."""
    _person(request, Role.VIEWER)
    found, document = await _run(request, lambda cursor: rulesets.get_ruleset(cursor, ruleset_id))
    return RulesetAnswer(ruleset=found, document=document)


@router.post("/rulesets/{ruleset_id}/restore", tags=["rulesets"], openapi_extra=body_of(RestoreRequest))
async def post_restore(request: Request, ruleset_id: Id) -> RestoredAnswer:
    """Roll back: put the rules of an older ruleset in force, as a new one. What was in force since is paused."""
    person = _person(request, Role.APPROVER)
    body = await _body(request, RestoreRequest)
    return RestoredAnswer(
        ruleset_id=await _run(request, lambda cursor: rulesets.restore(cursor, ruleset_id, person.name, body.reason))
    )


# ---------- backtests and replays


@router.get("/backtests", tags=["backtests"])
async def get_backtests(request: Request, before: Before = None, limit: Limit = 100) -> BacktestsAnswer:
    """Backtests, the newest first, with how far they are."""
    _person(request, Role.VIEWER)
    return BacktestsAnswer(
        backtests=await _run(request, lambda cursor: backtests_table.list_backtests(cursor, before, limit))
    )


@router.post("/backtests", tags=["backtests"], status_code=201, openapi_extra=body_of(BacktestRequest))
async def post_backtest(request: Request) -> BacktestAnswer:
    """Ask for a backtest of a rule, a condition or a threshold of the model; GET /backtests/… has its progress."""
    person = _person(request, Role.AUTHOR)
    body = await _body(request, BacktestRequest)

    found = await _run(request, lambda cursor: backtests_table.ask(cursor, body.fields(), person.name))
    return BacktestAnswer(backtest=found, report=None)


@router.get("/backtests/{backtest_id}", tags=["backtests"])
async def get_backtest(request: Request, backtest_id: Id) -> BacktestAnswer:
    """A backtest, with its report once it is done."""
    _person(request, Role.VIEWER)
    found, report = await _run(request, lambda cursor: backtests_table.get_backtest(cursor, backtest_id))
    return BacktestAnswer(backtest=found, report=report)


@router.post("/backtests/{backtest_id}/cancel", tags=["backtests"])
async def post_cancel(request: Request, backtest_id: Id) -> BacktestAnswer:
    """End a backtest that waits or runs."""
    person = _person(request, Role.AUTHOR)
    found = await _run(request, lambda cursor: backtests_table.cancel(cursor, backtest_id, person.name))
    return BacktestAnswer(backtest=found, report=None)


@router.post("/replay/{prediction_id}", tags=["backtests"])
async def post_replay(request: Request, prediction_id: UUID) -> Replay:
    """Decide a stored prediction again: the same rules, lists, features and score must give the same decision."""
    _person(request, Role.VIEWER)
    state = request.app.state
    return await replay_prediction(state.rules_database, state.models, state.rules_replays, prediction_id)


# ---------- what they share


def _person(request: Request, role: Role) -> Person:
    """Who asks, with at least this role; raises ForbiddenError. Before the body is read: that may be a megabyte."""
    person: Person = request.scope["person"]
    person.require(role)
    return person


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.rules_settings
    return settings


async def _body[M: BaseModel](request: Request, model: type[M]) -> M:
    return read_object(await request.body(), model)


def _run[T](request: Request, work: Callable[[Cursor], T]) -> Awaitable[T]:
    database: RulesDatabase = request.app.state.rules_database
    return database.run(work)


async def _act(
    request: Request, name: str, role: Role, action: Callable[[Cursor, str, int, str, str], Change]
) -> ChangeAnswer:
    person = _person(request, role)
    body = await _body(request, ActionRequest)
    return _change(await _run(request, lambda cursor: action(cursor, name, body.version, person.name, body.reason)))


async def _entries(request: Request, work: Callable[[Cursor], list[Entry]]) -> EntriesAnswer:
    return EntriesAnswer(entries=await _run(request, work))


def _change(change: Change) -> ChangeAnswer:
    return ChangeAnswer(version=change.version, ruleset_id=change.ruleset_id)


def _content(body: VersionRequest) -> Content:
    return Content(
        body.lane, body.when, body.answer, body.queue, body.owner, body.note, body.rollout_percent, body.expires_at
    )


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status = STATUSES[type(error)]
    return JSONResponse({"detail": str(error)}, status, {"Retry-After": "5"} if status == 503 else None)


async def _not_allowed(request: Request, _: Exception) -> JSONResponse:
    """Starlette names the methods of a path's first route only, and most paths here have two."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.path_regex.match(request.scope["path"])]
    methods = {method for route in matching for method in route.methods or ()}
    return JSONResponse({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(sorted(methods))})


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InvalidError)
    detail: dict[str, Any] = {"loc": ["body", *error.field], "msg": str(error), "type": "value_error"}
    if wrong := error.rule_error:
        detail |= {"type": "rule_error", "line": wrong.line, "column": wrong.column, "excerpt": wrong.excerpt}
    return JSONResponse({"detail": [detail]}, 422)

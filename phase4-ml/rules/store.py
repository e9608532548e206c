"""Rules, their versions and their states in Postgres: plain functions on a cursor; the caller commits.

A version's content never changes; what changes is its state, by an action of rules/states.py, with an event that says
who did it and why. Whatever changes what serving evaluates makes a ruleset (rules/rulesets.py) in the same transaction.
"""

from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor

from rules import rulesets
from rules.access import Person, Role
from rules.errors import RuleError
from rules.language import Expression, parse
from rules.lists_table import get_lists
from rules.refusals import ConflictError, ForbiddenError, InvalidError, NotFoundError, not_found
from rules.states import IN_FORCE, State, TransitionError, next_state

_VERSIONS = """
select
    rule_id, name, version, state, lane, "when", answer, queue, owner, note, rollout_percent, expires_at, author,
    rule_versions.created_at, approved_by, approved_at, four_eyes, expected_hits_per_day
from rule_versions join rules using (rule_id)
"""
_INSERT_VERSION = """
insert into rule_versions (
    rule_id, version, author, lane, "when", answer, queue, owner, note, rollout_percent, expires_at
)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_INSERT_EVENT = """
insert into rule_events (rule_id, version, from_state, to_state, by, reason) values (%s, %s, %s, %s, %s, %s)
"""
_APPROVED = """
update rule_versions set approved_by = %s, approved_at = now(), four_eyes = %s
where rule_id = %s and version = %s
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What a version of a rule says; the fields are those of the table."""

    lane: str
    when: str
    answer: str
    queue: bool
    owner: str
    note: str
    rollout_percent: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a rule, as stored."""

    rule_id: int
    name: str
    version: int
    state: State
    lane: str
    when: str
    answer: str
    queue: bool
    owner: str
    note: str
    rollout_percent: int
    expires_at: datetime | None
    author: str
    created_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    four_eyes: bool
    expected_hits_per_day: float | None

    @property
    def content(self) -> Content:
        """What it says."""
        return Content(*(getattr(self, field.name) for field in fields(Content)))


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a version's state; from_state is None when it was written."""

    version: int
    from_state: str | None
    to_state: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A version after an action, and the ruleset that has it, if the action changed what is in force."""

    version: Version
    ruleset_id: int | None


def list_versions(cursor: Cursor, state: str | None = None) -> list[Version]:
    """All versions in a state, in the order of their names; or those that are not retired, and what is newest.

    A rule of which everything is retired is in the list with its newest version.
    """
    if state is not None:
        cursor.execute(f"{_VERSIONS} where state = %s order by name, version", (state,))
    else:
        cursor.execute(
            f"{_VERSIONS} where state <> 'retired' or version = (select max(version) from rule_versions as newest "
            "where newest.rule_id = rule_versions.rule_id) order by name, version"
        )
    return [Version(*row) for row in cursor.fetchall()]


def versions_of(cursor: Cursor, name: str) -> list[Version]:
    """All versions of a rule, the newest first.

    Raises:
        NotFoundError: there is no rule of this name.
    """
    cursor.execute(f"{_VERSIONS} where name = %s order by version desc", (name,))
    found = [Version(*row) for row in cursor.fetchall()]
    if not found:
        raise _no_rule(cursor, name)
    return found


def get_version(cursor: Cursor, name: str, version: int) -> Version:
    """One version of a rule.

    Raises:
        NotFoundError: there is no such rule, or no such version of it.
    """
    found = versions_of(cursor, name)
    for each in found:
        if each.version == version:
            return each
    raise NotFoundError(f"rule {name} has no version {version}; its newest is {found[0].version}")


def history(cursor: Cursor, name: str) -> list[Event]:
    """What happened to all versions of a rule, the newest event first.

    Raises:
        NotFoundError: there is no rule of this name.
    """
    cursor.execute(
        "select version, from_state, to_state, by, reason, at from rule_events where rule_id = %s "
        "order by event_id desc",
        (rule_id_of(cursor, name),),
    )
    return [Event(*row) for row in cursor.fetchall()]


def rule_id_of(cursor: Cursor, name: str, *, locked: bool = False) -> int:
    """The id of a rule; locked: no other transaction adds a version to it before this one ends.

    Raises:
        NotFoundError: there is no rule of this name.
    """
    cursor.execute(f"select rule_id from rules where name = %s {'for update' if locked else ''}", (name,))
    found = cursor.fetchall()
    if not found:
        raise _no_rule(cursor, name)
    return int(found[0][0])


def check_condition(cursor: Cursor, when: str, answer: str, lane: str) -> Expression:
    """Check a condition and the lists that it reads, for what it is meant.

    Raises:
        InvalidError: it is wrong, and where.
    """
    try:
        expression = parse(when)
    except RuleError as error:
        raise InvalidError(("when",), str(error), error) from None
    if lane == "exception" and answer == "decline":
        raise InvalidError(("answer",), "an exception lowers a decision: its answer is approve or challenge")
    known = {each.name: each for each in get_lists(cursor)} if expression.lists else {}
    for value, name in expression.lists:
        if name not in known:
            raise InvalidError(("when",), str(not_found("list", name, known)))
        if known[name].about != value:
            raise InvalidError(("when",), f"list {name} has values of {known[name].about}, not of {value}")
        if not known[name].needs_approval and (answer == "decline" or lane == "exception"):
            raise InvalidError(
                ("when",),
                f"one person alone can add to list {name}, so it can't decline payments or make exceptions; "
                "use a list with needs_approval",
            )
    return expression


def check_content(cursor: Cursor, content: Content) -> None:
    """Check what the columns' types can't: the condition, its lists, and that an end is in the future.

    Raises:
        InvalidError: it names the field and, in a condition, the place.
    """
    check_condition(cursor, content.when, content.answer, content.lane)
    if content.lane == "exception" and content.expires_at is None:
        raise InvalidError(("expires_at",), "an exception needs the time when it ends")
    if content.expires_at is not None and content.expires_at <= datetime.now(UTC):
        raise InvalidError(("expires_at",), "it is in the past")


def create_rule(cursor: Cursor, name: str, content: Content, by: str, reason: str) -> Version:
    """Write version 1 of a new rule, as a draft.

    Raises:
        InvalidError: the content is wrong.
        ConflictError: there is a rule of this name.
    """
    check_content(cursor, content)
    cursor.execute(
        "insert into rules (name, created_by) values (%s, %s) on conflict (name) do nothing returning rule_id",
        (name, by),
    )
    found = cursor.fetchall()
    if not found:
        raise ConflictError(f"there is a rule {name} already; add a version to it: POST /rules/{name}/versions")
    return _write(cursor, int(found[0][0]), name, 1, content, by, reason)


def add_version(cursor: Cursor, name: str, content: Content, by: str, reason: str) -> Version:
    """Write the next version of a rule, as a draft; the other versions stay as they are.

    Raises:
        InvalidError: the content is wrong.
        NotFoundError: there is no rule of this name.
        ConflictError: the newest version says the same and is not retired.
    """
    check_content(cursor, content)
    rule_id = rule_id_of(cursor, name, locked=True)
    newest = versions_of(cursor, name)[0]
    if newest.content == content and newest.state != "retired":
        raise ConflictError(f"version {newest.version} of rule {name} says the same and is {newest.state}")
    return _write(cursor, rule_id, name, newest.version + 1, content, by, reason)


def submit(cursor: Cursor, name: str, version: int, by: str, reason: str) -> Change:
    """Ask for the approval of a draft, or of a version that was paused.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: its state does not allow it.
        InvalidError: its expression or its lists have become wrong, or it has expired.
    """
    rulesets.lock(cursor)
    found, to = _next(cursor, "submit", name, version)
    check_content(cursor, found.content)
    return _move(cursor, found, to, by, reason)


def approve(cursor: Cursor, name: str, version: int, to: State, by: str, reason: str, *, four_eyes: bool) -> Change:
    """Put a version in force: as shadow or live. The version that was live before is retired.

    Args:
        four_eyes: whether its author may not do this.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: its state does not allow it.
        ForbiddenError: the person is its author.
        InvalidError: its expression or its lists have become wrong, or it has expired.
    """
    rulesets.lock(cursor)
    found, to = _next(cursor, "approve", name, version, to)
    if four_eyes and by == found.author:
        raise ForbiddenError(
            f"{by} wrote version {version} of rule {name}, so another person has to approve it (RULES_FOUR_EYES=on)"
        )
    check_content(cursor, found.content)
    put_in_force(cursor, found, to, by, reason, four_eyes=four_eyes)
    return _changed(cursor, found, to, by, reason)


def put_in_force(cursor: Cursor, version: Version, to: State, by: str, reason: str, *, four_eyes: bool) -> None:
    """The change of `approve` alone: without its checks, and without a ruleset, which the caller makes."""
    if to == "live":
        for other in versions_of(cursor, version.name):
            if other.state == "live":
                _set_state(cursor, other, "retired", by, f"replaced by version {version.version}")
    cursor.execute(_APPROVED, (by, four_eyes, version.rule_id, version.version))
    _set_state(cursor, version, to, by, reason)


def reject(cursor: Cursor, name: str, version: int, person: Person, reason: str) -> Change:
    """Make a draft again of a version that was submitted; its author may do this too.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: its state does not allow it.
        ForbiddenError: the person is neither its author nor an approver.
    """
    rulesets.lock(cursor)
    found, to = _next(cursor, "reject", name, version)
    if person.name != found.author:
        person.require(Role.APPROVER)
    return _move(cursor, found, to, person.name, reason)


def pause(cursor: Cursor, name: str, version: int, by: str, reason: str) -> Change:
    """Take a version out of force; it can be submitted again.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: it is not in force.
    """
    rulesets.lock(cursor)
    found, to = _next(cursor, "pause", name, version)
    return _move(cursor, found, to, by, reason)


def retire(cursor: Cursor, name: str, version: int, by: str, reason: str) -> Change:
    """End a version for good.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: it is retired.
    """
    rulesets.lock(cursor)
    found, to = _next(cursor, "retire", name, version)
    return _move(cursor, found, to, by, reason)


def set_expected_hits(cursor: Cursor, rule_id: int, version: int, hits_per_day: float, by: str, reason: str) -> None:
    """Store what a backtest expects of a version; serving learns of it if the version is in force."""
    rulesets.lock(cursor)
    cursor.execute(
        "update rule_versions set expected_hits_per_day = %s where rule_id = %s and version = %s returning state",
        (hits_per_day, rule_id, version),
    )
    if any(state in IN_FORCE for (state,) in cursor.fetchall()):
        rulesets.publish(cursor, by, reason)


def _no_rule(cursor: Cursor, name: str) -> NotFoundError:
    cursor.execute("select name from rules")
    return not_found("rule", name, (known for (known,) in cursor.fetchall()))


def _write(cursor: Cursor, rule_id: int, name: str, version: int, content: Content, by: str, reason: str) -> Version:
    cursor.execute(_INSERT_VERSION, (rule_id, version, by, *astuple(content)))
    cursor.execute(_INSERT_EVENT, (rule_id, version, None, "draft", by, reason))
    return get_version(cursor, name, version)


def _next(cursor: Cursor, action: str, name: str, version: int, to: State | None = None) -> tuple[Version, State]:
    found = get_version(cursor, name, version)
    try:
        return found, next_state(action, found.state, to)
    except TransitionError as error:
        raise ConflictError(f"version {version} of rule {name}: {error}") from None


def _move(cursor: Cursor, version: Version, to: State, by: str, reason: str) -> Change:
    _set_state(cursor, version, to, by, reason)
    return _changed(cursor, version, to, by, reason)


def _changed(cursor: Cursor, version: Version, to: State, by: str, reason: str) -> Change:
    """The version after a change of its state, with a new ruleset if it was or is in force."""
    ruleset_id = None
    if version.state in IN_FORCE or to in IN_FORCE:
        what = f"{version.name} version {version.version}: {version.state} to {to}"
        ruleset_id = rulesets.publish(cursor, by, f"{what}; {reason}"[:500] if reason else what)
    return Change(get_version(cursor, version.name, version.version), ruleset_id)


def _set_state(cursor: Cursor, version: Version, to: State, by: str, reason: str) -> None:
    cursor.execute(
        "update rule_versions set state = %s where rule_id = %s and version = %s",
        (to, version.rule_id, version.version),
    )
    cursor.execute(_INSERT_EVENT, (version.rule_id, version.version, version.state, to, by, reason))

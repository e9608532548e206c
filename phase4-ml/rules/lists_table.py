"""Lists of values and their entries in Postgres: plain functions on a cursor; the caller commits.

An entry is never deleted, it only ends, so that a replay or a backtest finds what was on a list at the time of a
payment. For the same reason it never begins in the past. rules/lists.py has what serving evaluates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from rules.access import Person, Role
from rules.catalogue import CATALOGUE
from rules.refusals import ConflictError, ForbiddenError, InvalidError, NotFoundError, not_found

_LISTS = """
select
    list_name, about, note, needs_approval, created_by, created_at,
    (select count(*) from list_members
    where list_members.list_name = lists.list_name and valid_from <= now() and coalesce(valid_to > now(), true)),
    (select count(*) from list_entries
    where
        list_entries.list_name = lists.list_name and needs_approval and approved_by is null
        and coalesce(valid_to > now(), true))
from lists
"""
_ENTRIES = """
select
    entry_id, value, valid_from, valid_to, added_by, added_at, approved_by, approved_at, ended_by, ended_reason, reason,
    (approved_by is not null or not needs_approval) and valid_from <= now() and coalesce(valid_to > now(), true)
from list_entries join lists using (list_name)
"""
# Those that serving keeps in memory now or would once they are approved. The row is locked, so that of two requests at
# the same time one sees what the other has added.
_LOCK_CHANGES = "select from list_changes for update"
_KNOWN = """
select
    (select count(*) from list_entries where coalesce(valid_to > now(), true))
    + (select count(*) from suppressions where valid_to > now())
"""
_INSERT = """
insert into list_entries (list_name, value, valid_from, valid_to, added_by, reason) values %s returning entry_id
"""
_APPROVE = """
update list_entries
set approved_by = %s, approved_at = now(), four_eyes = %s, valid_from = greatest(valid_from, now())
where entry_id = any(%s)
"""
_END = """
update list_entries set valid_to = greatest(valid_from, now()), ended_by = %s, ended_reason = %s
where entry_id = any(%s)
"""


@dataclass(frozen=True, slots=True)
class List:
    """A list of values of one text name of the catalogue.

    values   how many are on it now
    waiting  entries that need approval and have none yet
    """

    name: str
    about: str
    note: str
    needs_approval: bool
    created_by: str
    created_at: datetime
    values: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A value on a list, for a time; in_force says whether it counts now."""

    entry_id: int
    value: str
    valid_from: datetime
    valid_to: datetime | None
    added_by: str
    added_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    ended_by: str | None
    ended_reason: str
    reason: str
    in_force: bool


def get_lists(cursor: Cursor) -> list[List]:
    """All lists, in the order of their names."""
    cursor.execute(f"{_LISTS} order by list_name")
    return [List(*row) for row in cursor.fetchall()]


def get_list(cursor: Cursor, name: str, *, locked: bool = False) -> List:
    """One list; locked: no other transaction changes its entries before this one ends.

    Raises:
        NotFoundError: there is no list of this name.
    """
    cursor.execute(f"{_LISTS} where list_name = %s {'for update' if locked else ''}", (name,))
    found = cursor.fetchall()
    if not found:
        raise not_found("list", name, (each.name for each in get_lists(cursor)))
    return List(*found[0])


def create_list(cursor: Cursor, name: str, about: str, note: str, needs_approval: bool, by: str) -> List:
    """Make an empty list.

    Raises:
        InvalidError: it is about no text name of the catalogue.
        ConflictError: there is a list of this name.
    """
    texts = [each.name for each in CATALOGUE.values() if each.type == "text"]
    if about not in texts:
        raise InvalidError(("about",), f"must be one of {', '.join(texts)}")
    cursor.execute(
        "insert into lists (list_name, about, note, needs_approval, created_by) values (%s, %s, %s, %s, %s) "
        "on conflict (list_name) do nothing",
        (name, about, note, needs_approval, by),
    )
    if cursor.rowcount == 0:
        raise ConflictError(f"there is a list {name} already; add values to it: POST /lists/{name}/entries")
    return get_list(cursor, name)


def get_entries(
    cursor: Cursor, name: str, *, value: str | None = None, before: int | None = None, limit: int = 1000
) -> list[Entry]:
    """So many entries of a list, the newest first; also those that have ended.

    Args:
        value: only those of this value.
        before: only those that were added before this entry.

    Raises:
        NotFoundError: there is no list of this name.
    """
    get_list(cursor, name)
    conditions, values = ["list_name = %s"], [name, value, before]
    conditions += ["value = %s"] if value is not None else []
    conditions += ["entry_id < %s"] if before is not None else []
    given: list[Any] = [each for each in values if each is not None]
    cursor.execute(f"{_ENTRIES} where {' and '.join(conditions)} order by entry_id desc limit %s", (*given, limit))
    return [Entry(*row) for row in cursor.fetchall()]


def add_entries(
    cursor: Cursor,
    name: str,
    values: Sequence[str],
    by: str,
    reason: str,
    *,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    most: int,
) -> list[Entry]:
    """Put values on a list, all of them or none; on a list that needs approval, they wait for it.

    Args:
        valid_from: when it begins, by default at once.
        valid_to: when it ends, by default never.
        most: as `check_room` has it.

    Raises:
        NotFoundError: there is no list of this name.
        InvalidError: a value is given twice or is on the list, or a time is in the past.
        ConflictError: there would be too many.
    """
    get_list(cursor, name, locked=True)
    _check_times(valid_from, valid_to)
    check_room(cursor, len(values), most)
    _check_new(cursor, name, values)
    cursor.execute("select now()")
    ((now,),) = cursor.fetchall()
    rows = [(name, value, valid_from or now, valid_to, by, reason) for value in values]
    ids = [entry_id for (entry_id,) in execute_values(cursor, _INSERT, rows, page_size=len(rows), fetch=True)]
    return _entries(cursor, name, ids)


def check_room(cursor: Cursor, more: int, most: int) -> None:
    """Check that workers can keep so many more values or suppressions; with too many they take no new rules up.

    Args:
        most: how many lists and suppressions together may have (RULES_MAX_LIST_ENTRIES).

    Raises:
        ConflictError: there would be too many.
    """
    cursor.execute(_LOCK_CHANGES)
    cursor.execute(_KNOWN)
    ((known,),) = cursor.fetchall()
    if known + more > most:
        raise ConflictError(
            f"all lists and suppressions together would have {known + more:,} values, more than "
            f"RULES_MAX_LIST_ENTRIES={most:,} in .env; end some of them first"
        )


def approve_entries(cursor: Cursor, name: str, entry_ids: Sequence[int], by: str, *, four_eyes: bool) -> list[Entry]:
    """Let entries that wait count from now on, all of them or none.

    Args:
        four_eyes: whether the person who added an entry may not do this.

    Raises:
        NotFoundError: there is no such list, or no such entry in it.
        ConflictError: an entry needs no approval, has it, or has ended.
        ForbiddenError: the person has added one of them.
    """
    known = get_list(cursor, name, locked=True)
    if not known.needs_approval:
        raise ConflictError(f"the entries of list {name} need no approval")
    for entry in _entries(cursor, name, entry_ids):
        if entry.approved_by is not None:
            raise ConflictError(f"entry {entry.entry_id} of list {name} was approved by {entry.approved_by}")
        _check_not_ended(name, entry)
        if four_eyes and entry.added_by == by:
            raise ForbiddenError(
                f"{by} added entry {entry.entry_id} of list {name}, so another person has to approve it "
                "(RULES_FOUR_EYES=on)"
            )
    cursor.execute(_APPROVE, (by, four_eyes, list(entry_ids)))
    return _entries(cursor, name, entry_ids)


def end_entries(cursor: Cursor, name: str, entry_ids: Sequence[int], person: Person, reason: str) -> list[Entry]:
    """Take entries off a list now, all of them or none.

    Raises:
        NotFoundError: there is no such list, or no such entry in it.
        ConflictError: an entry has ended.
        ForbiddenError: the list needs approval, and the person is no approver.
    """
    if get_list(cursor, name, locked=True).needs_approval:
        person.require(Role.APPROVER)
    for entry in _entries(cursor, name, entry_ids):
        _check_not_ended(name, entry)
    cursor.execute(_END, (person.name, reason, list(entry_ids)))
    return _entries(cursor, name, entry_ids)


def _check_times(valid_from: datetime | None, valid_to: datetime | None) -> None:
    now = datetime.now(UTC)
    if valid_from is not None and valid_from < now:
        raise InvalidError(("valid_from",), "it is in the past; decisions that were made would look wrong")
    if valid_to is not None and valid_to <= (valid_from or now):
        raise InvalidError(("valid_to",), "it is not after the beginning")


def _check_new(cursor: Cursor, name: str, values: Sequence[str]) -> None:
    """No value is given twice, or has an entry that has not ended."""
    cursor.execute(
        "select value, entry_id from list_entries "
        "where list_name = %s and value = any(%s) and coalesce(valid_to > now(), true)",
        (name, list(values)),
    )
    entries = dict(cursor.fetchall())
    seen = set()
    for position, value in enumerate(values):
        if value in seen:
            raise InvalidError(("values", position), f"{value} is given twice")
        if value in entries:
            raise InvalidError(("values", position), f"{value} is on list {name} as entry {entries[value]}")
        seen.add(value)


def _check_not_ended(name: str, entry: Entry) -> None:
    if entry.valid_to is not None and entry.valid_to <= datetime.now(UTC):
        raise ConflictError(f"entry {entry.entry_id} of list {name} has ended")


def _entries(cursor: Cursor, name: str, entry_ids: Iterable[int]) -> list[Entry]:
    """Those entries, in the order in which they were added; raises NotFoundError for one that the list has not."""
    wanted = set(entry_ids)
    cursor.execute(f"{_ENTRIES} where list_name = %s and entry_id = any(%s) order by entry_id", (name, list(wanted)))
    found = [Entry(*row) for row in cursor.fetchall()]
    if missing := wanted - {entry.entry_id for entry in found}:
        raise NotFoundError(f"list {name} has no entry {min(missing)}")
    return found

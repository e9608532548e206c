"""Suppressions: a rule does not fire for one user, for a time. Plain functions on a cursor; the caller commits."""

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor

from rules.lists_table import check_room
from rules.refusals import ConflictError, InvalidError, NotFoundError
from rules.store import rule_id_of

_COLUMNS = "suppression_id, user_id, valid_from, valid_to, by, reason, valid_from <= now() and valid_to > now()"


@dataclass(frozen=True, slots=True)
class Suppression:
    """A user for whom a rule does not fire; in_force says whether that is so now."""

    suppression_id: int
    user_id: str
    valid_from: datetime
    valid_to: datetime
    by: str
    reason: str
    in_force: bool


def get_suppressions(cursor: Cursor, name: str) -> list[Suppression]:
    """Those of a rule, the newest first; of those that have ended, the newest 100.

    Raises:
        NotFoundError: there is no rule of this name.
    """
    rule_id = rule_id_of(cursor, name)
    cursor.execute(
        f"select {_COLUMNS} from suppressions where rule_id = %(rule_id)s and (valid_to > now() or suppression_id in ("
        "select suppression_id from suppressions where rule_id = %(rule_id)s order by suppression_id desc limit 100"
        ")) order by suppression_id desc",
        {"rule_id": rule_id},
    )
    return [Suppression(*row) for row in cursor.fetchall()]


def suppress(
    cursor: Cursor, name: str, user_id: str, valid_to: datetime, by: str, reason: str, *, most: int
) -> Suppression:
    """Keep a rule from firing for a user, from now until a time.

    Args:
        most: how many lists and suppressions together may have (RULES_MAX_LIST_ENTRIES).

    Raises:
        NotFoundError: there is no rule of this name.
        InvalidError: the time is in the past.
        ConflictError: the rule does not fire for this user already, or there would be too many.
    """
    rule_id = rule_id_of(cursor, name, locked=True)
    if valid_to <= datetime.now(UTC):
        raise InvalidError(("valid_to",), "it is in the past")
    for known in get_suppressions(cursor, name):
        if known.user_id == user_id and known.in_force:
            raise ConflictError(f"rule {name} is suppressed for {user_id} until {known.valid_to:%Y-%m-%d %H:%M} UTC")
    check_room(cursor, 1, most)
    cursor.execute(
        f"insert into suppressions (rule_id, user_id, valid_to, by, reason) values (%s, %s, %s, %s, %s) "
        f"returning {_COLUMNS}",
        (rule_id, user_id, valid_to, by, reason),
    )
    return Suppression(*cursor.fetchall()[0])


def end_suppression(cursor: Cursor, name: str, suppression_id: int) -> Suppression:
    """Let a rule fire for a user again from now on.

    Raises:
        NotFoundError: there is no such rule, or no such suppression of it.
        ConflictError: it has ended.
    """
    rule_id = rule_id_of(cursor, name, locked=True)
    cursor.execute(
        "select valid_to > now() from suppressions where suppression_id = %s and rule_id = %s",
        (suppression_id, rule_id),
    )
    found = cursor.fetchall()
    if not found:
        raise NotFoundError(f"rule {name} has no suppression {suppression_id}")
    if not found[0][0]:
        raise ConflictError(f"suppression {suppression_id} of rule {name} has ended")
    cursor.execute(
        "update suppressions set valid_to = greatest(valid_from, now()) where suppression_id = %s "
        f"returning {_COLUMNS}",
        (suppression_id,),
    )
    return Suppression(*cursor.fetchall()[0])

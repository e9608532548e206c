"""Rulesets: what serving evaluates, as immutable documents. The newest one is in force.

Each change of a rule in force makes one, in the transaction of the change and under a lock: so their ids are in the
order in which they become visible, and a worker that has seen ruleset 8 never has to look for 7.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor

from rules.refusals import ConflictError, NotFoundError
from rules.ruleset import MAX_RULES
from rules.states import IN_FORCE

type Document = dict[str, Any]

_LOCK = "select pg_advisory_xact_lock(hashtext('rulesets'))"
_IN_FORCE = """
select
    rule_id, version, name, lane, state, "when", answer, queue, rollout_percent, expires_at, expected_hits_per_day
from rule_versions join rules using (rule_id)
where state in ('shadow', 'live')
order by rule_id, version
"""
_INSERT = """
insert into rulesets (document, created_by, reason, document_hash) values (%s, %s, %s, %s) returning ruleset_id
"""
_LIST = """
select
    ruleset_id, created_at, created_by, reason, document_hash, jsonb_array_length(document -> 'rules'),
    ruleset_id = (select max(ruleset_id) from rulesets)
from rulesets
where %(before)s is null or ruleset_id < %(before)s
order by ruleset_id desc
limit %(limit)s
"""
_ONE = """
select
    ruleset_id, created_at, created_by, reason, document_hash, jsonb_array_length(document -> 'rules'),
    ruleset_id = (select max(ruleset_id) from rulesets), document
from rulesets
where ruleset_id = %s
"""
_RESTORE = """
update rule_versions set state = %(to)s where rule_id = %(rule_id)s and version = %(version)s
"""
_EVENT = """
insert into rule_events (rule_id, version, from_state, to_state, by, reason)
values (%(rule_id)s, %(version)s, %(from)s, %(to)s, %(by)s, %(reason)s)
"""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One ruleset, without its rules."""

    ruleset_id: int
    created_at: datetime
    created_by: str
    reason: str
    document_hash: str
    rules: int
    in_force: bool


def lock(cursor: Cursor) -> None:
    """Be the only transaction that changes rules, until its end."""
    cursor.execute(_LOCK)


def publish(cursor: Cursor, by: str, reason: str) -> int:
    """Make the ruleset of all versions that are live or shadow now; the caller has the lock. Returns its id.

    Raises:
        ConflictError: there would be more rules than serving evaluates.
    """
    cursor.execute(_IN_FORCE)
    names = [column.name for column in cursor.description or ()]
    document: Document = {"rules": [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]}
    if len(document["rules"]) > MAX_RULES:
        raise ConflictError(f"more than {MAX_RULES} versions of rules would be live or in shadow; retire some first")
    for rule in document["rules"]:
        rule["expires_at"] = rule["expires_at"].isoformat() if rule["expires_at"] else None
    text = json.dumps(document)
    cursor.execute(_INSERT, (text, by, reason, document_hash(document)))
    ((ruleset_id,),) = cursor.fetchall()
    return int(ruleset_id)


def document_hash(document: Document) -> str:
    """SHA-256 of a document, the same however its JSON is written."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def list_rulesets(cursor: Cursor, before: int | None, limit: int) -> list[Ruleset]:
    """So many rulesets, the newest first.

    Args:
        before: only those that are older than this one.
    """
    cursor.execute(_LIST, {"before": before, "limit": limit})
    return [Ruleset(*row) for row in cursor.fetchall()]


def get_ruleset(cursor: Cursor, ruleset_id: int) -> tuple[Ruleset, Document]:
    """A ruleset with its document.

    Raises:
        NotFoundError: there is none with this id.
    """
    cursor.execute(_ONE, (ruleset_id,))
    found = cursor.fetchall()
    if not found:
        raise NotFoundError(f"there is no ruleset {ruleset_id}{_newest(cursor)}")
    return Ruleset(*found[0][:-1]), found[0][-1]


def restore(cursor: Cursor, ruleset_id: int, by: str, reason: str) -> int:
    """Put the rules of an older ruleset in force again, as a new ruleset; returns its id.

    The versions get the states that they had in it; versions that are in force but not in it are paused. All of them
    were approved for it, so this needs one person.

    Raises:
        NotFoundError: there is no such ruleset.
        ConflictError: its rules are in force as they were.
    """
    lock(cursor)
    _, document = get_ruleset(cursor, ruleset_id)
    wanted = {(rule["rule_id"], rule["version"]): rule["state"] for rule in document["rules"]}
    cursor.execute("select rule_id, version, state from rule_versions")
    states = {(rule_id, version): state for rule_id, version, state in cursor.fetchall()}
    in_force = {key: state for key, state in states.items() if state in IN_FORCE}
    if wanted == in_force:
        raise ConflictError(f"the rules of ruleset {ruleset_id} are in force as they were in it")
    why = f"ruleset {ruleset_id} restored: {reason}" if reason else f"ruleset {ruleset_id} restored"
    changed = {key: "paused" for key in in_force if key not in wanted}
    changed |= {key: state for key, state in wanted.items() if states[key] != state}
    # The checks of the database let the states of an older ruleset come back in this transaction only.
    cursor.execute("set local rules.restoring = 'on'")
    # A rule has one live version at any moment.
    for (rule_id, version), to in sorted(changed.items(), key=lambda change: change[1] == "live"):
        values = {"rule_id": rule_id, "version": version, "to": to, "by": by, "reason": why[:500]}
        cursor.execute(_RESTORE, values)
        cursor.execute(_EVENT, values | {"from": states[rule_id, version]})
    return publish(cursor, by, why[:500])


def _newest(cursor: Cursor) -> str:
    cursor.execute("select max(ruleset_id) from rulesets")
    ((newest,),) = cursor.fetchall()
    return f"; the newest is {newest}" if newest else "; there is none yet"

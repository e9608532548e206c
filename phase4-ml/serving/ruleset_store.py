"""The rules in force: the newest ruleset in Postgres with its lists, else the last good one on disk, else none.

A thread of every worker asks Postgres every two seconds. What has changed is read in one snapshot, compiled, and then
used: a request sees either all of the old rules or all of the new ones. It is also written to the disk in one step.
Workers share the file on the volume; a restart needs no Postgres.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import psycopg2
from fraud_common.postgres import connect
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from rules.lists import ListValues
from rules.ruleset import NO_RULES, InForce, Ruleset, RulesetError

from serving import metrics
from serving.settings import Settings

log = logging.getLogger("rules")

POLL_SECONDS = 2.0
CLOSE_SECONDS = 5.0
# What the file contains; a reader takes no other format.
FORMAT = 1
STATEMENT_TIMEOUT = "set statement_timeout = '10s'"

VERSIONS = "select (select max(ruleset_id) from rulesets), (select version from list_changes)"
RULESET = "select document from rulesets where ruleset_id = %s"
# What has ended is of no use any more. An entry that is not approved is not in the view.
LISTS = """
select list_name, value, valid_from, valid_to from list_members
where list_name = any(%s) and (valid_to is null or valid_to > now())
order by list_name, value, valid_from
limit %s
"""
# Rows are fetched in parts: a part is converted without a pause, and requests wait meanwhile.
ROWS_AT_ONCE = 500
LIST_NAMES = "select list_name from lists where list_name = any(%s)"
SUPPRESSIONS = """
select rule_id, user_id, valid_from, valid_to from suppressions
where valid_to > now()
order by rule_id, user_id, valid_from
limit %s
"""


class TooManyEntriesError(Exception):
    """Lists and suppressions take more memory than a worker may use for them."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What is newest in Postgres."""

    ruleset_id: int | None
    lists: int


class RulesetStore:
    """The event loop reads `in_force`, which may be another object after any await; a thread replaces it."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._file = settings.state_dir / "rules"
        self._max_entries = settings.rules_max_list_entries
        self._connection: Connection | None = None
        self._read: Versions | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)
        self._unreachable: str | None = "postgres was not asked for rules yet"
        self._refused: str | None = None
        self._unsaved: str | None = None
        self.in_force = InForce()

    @property
    def trouble(self) -> str | None:
        """Why the rules in force may not be the newest; None while all is well."""
        problems = [each for each in (self._unreachable, self._refused, self._unsaved) if each]
        return f"{'; '.join(problems)}; {self._deciding()}" if problems else None

    def start(self) -> None:
        """Take what is on disk, ask Postgres once if that is nothing, and follow it from then on."""
        self._load()
        if self.in_force.ruleset is NO_RULES:
            self.refresh()
        self._thread.start()

    def close(self) -> None:
        """Stop to ask."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    def refresh(self) -> None:
        """Ask Postgres, and use what is new there. Whatever fails, the rules in force stay."""
        before = self.trouble
        try:
            self._follow()
            self._unreachable = None
        except psycopg2.Error as error:
            self._disconnect()
            self._unreachable = f"postgres does not answer for rules: {str(error).strip()}"
        if self.trouble and self.trouble != before:
            metrics.ERRORS.labels("rules").inc()
            log.error("%s", self.trouble)
        elif before and not self.trouble:
            log.info("rules are up to date; %s", self._deciding())

    def _run(self) -> None:
        while True:
            try:
                self.refresh()
            except Exception:
                metrics.BACKGROUND_FAILURES["rules"].inc()
                log.exception("rules are not read; trying again")
            if self._stop.wait(POLL_SECONDS):
                self._disconnect()
                return

    def _follow(self) -> None:
        with self._snapshot() as connection, connection.cursor() as cursor:
            newest = _versions(cursor)
            if newest == self._read:
                if self._unsaved:
                    self._save()
                return
            ruleset = self._newest(cursor, newest.ruleset_id)
            try:
                lists, suppressions = _lists(cursor, ruleset, self._max_entries)
            except TooManyEntriesError as error:
                self._refused = str(error)
                self._read = newest
                return
        self._take(InForce(ruleset, lists, suppressions))
        self._save()
        self._read = newest

    def _newest(self, cursor: Cursor, ruleset_id: int | None) -> Ruleset:
        """The newest ruleset, or the one in force if that can't be used."""
        current = self.in_force.ruleset
        self._refused = None
        if ruleset_id is None:
            return NO_RULES
        cursor.execute(RULESET, (ruleset_id,))
        ((document,),) = cursor.fetchall()
        # Another database, such as a new one, may have another ruleset of the same number than the disk.
        if (ruleset_id, document) == (current.ruleset_id, current.document):
            return current
        try:
            return Ruleset.of(ruleset_id, document)
        except RulesetError as error:
            self._refused = f"refused: {error}"
            return current

    def _take(self, in_force: InForce) -> None:
        before, self.in_force = self.in_force.ruleset, in_force
        metrics.RULES.bind(in_force.ruleset.rules)
        metrics.RULESET.set(in_force.ruleset.ruleset_id or 0)
        if before is not in_force.ruleset:
            log.info("%s, after ruleset %s", self._deciding(), before.ruleset_id)

    def _deciding(self) -> str:
        ruleset = self.in_force.ruleset
        if ruleset.ruleset_id is None:
            return "the model decides without rules"
        return f"ruleset {ruleset.ruleset_id} with {len(ruleset.rules)} rules decides"

    def _load(self) -> None:
        """Take what is on disk; damage is logged, and the file ignored until it is replaced."""
        try:
            self._take(unpack(self._file.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            metrics.ERRORS.labels("rules").inc()
            log.error("%s is ignored: %s; rules come from postgres", self._file, error)

    def _save(self) -> None:
        try:
            write_atomically(self._file, pack(self.in_force))
            self._unsaved = None
        except OSError as error:
            self._unsaved = f"the rules in force are not on disk, so a restart would need postgres: {error}"

    def _snapshot(self) -> Connection:
        """A connection; all that is asked in one transaction is of the same moment."""
        if self._connection is None:
            connection = connect(self._settings, "fraud-api-rules")
            connection.set_session(ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
            with connection, connection.cursor() as cursor:
                cursor.execute(STATEMENT_TIMEOUT)
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def pack(in_force: InForce) -> bytes:
    """The file: a checksum, a line break, and JSON."""
    content = orjson.dumps(
        {
            "format": FORMAT,
            "ruleset_id": in_force.ruleset.ruleset_id,
            "document": in_force.ruleset.document,
            "lists": {name: values.entries() for name, values in in_force.lists.items()},
            "suppressions": [[rule_id, values.entries()] for rule_id, values in in_force.suppressions.items()],
        }
    )
    return sha256(content).hexdigest().encode() + b"\n" + content


def unpack(text: bytes) -> InForce:
    """What `pack` has written.

    Raises:
        ValueError: it is damaged, of another release, or has rules that this one does not understand.
    """
    checksum, _, content = text.partition(b"\n")
    if sha256(content).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong, so it is damaged")
    stored: dict[str, Any] = orjson.loads(content)
    if stored["format"] != FORMAT:
        raise ValueError(f"its format is {stored['format']}, this release reads {FORMAT}")
    number = stored["ruleset_id"]
    return InForce(
        NO_RULES if number is None else Ruleset.of(number, stored["document"]),
        {name: _values(entries) for name, entries in stored["lists"].items()},
        {rule_id: _values(entries) for rule_id, entries in stored["suppressions"]},
    )


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file; after a crash it has the old content or the new one.

    Raises:
        OSError: it has the old one.
    """
    # Each worker writes one of its own first.
    draft = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with draft.open("wb") as output:
            output.write(content)
            output.flush()
            os.fsync(output.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _values(entries: list[list[Any]]) -> ListValues:
    times = ((datetime.fromisoformat(begin), datetime.fromisoformat(end) if end else None) for _, begin, end in entries)
    return ListValues((value, *time) for (value, _, _), time in zip(entries, times, strict=True))


def _versions(cursor: Cursor) -> Versions:
    cursor.execute(VERSIONS)
    ((ruleset_id, lists),) = cursor.fetchall()
    return Versions(ruleset_id, lists)


def _rows(cursor: Cursor) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        found += rows
    return found


def _lists(cursor: Cursor, ruleset: Ruleset, most: int) -> tuple[dict[str, ListValues], dict[int, ListValues]]:
    """The lists that a ruleset reads, and the suppressions of rules.

    Raises:
        TooManyEntriesError: together they have more entries than a worker keeps.
    """
    names = sorted(ruleset.lists)
    cursor.execute(LISTS, (names, most + 1))
    members = _rows(cursor)
    cursor.execute(SUPPRESSIONS, (most + 1,))
    suppressed = _rows(cursor)
    if len(members) + len(suppressed) > most:
        raise TooManyEntriesError(
            f"the lists that rules read ({', '.join(names)}) and suppressions have more than "
            f"RULES_MAX_LIST_ENTRIES={most:,} entries in force: end some, or raise it in .env"
        )
    cursor.execute(LIST_NAMES, (names,))
    # A list without entries is known to be empty; one that does not exist is unknown.
    empty: Mapping[str, ListValues] = {name: ListValues() for (name,) in cursor.fetchall()}
    return dict(empty) | ListValues.by_name(members), ListValues.by_name(suppressed)

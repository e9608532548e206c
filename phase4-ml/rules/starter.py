"""Fills an empty database with the rules and lists of a file, starter.yml, so that a new stack has rules that decide.

fraud-db-init calls it after the migrations. A database that has a rule, a list or a ruleset is left as it is.
"""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from fraud_common.errors import UserError
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import cursor as Cursor
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rules import rulesets, store
from rules.lists_table import create_list
from rules.refusals import InvalidError, RefusedChangeError
from rules.schemas import Answer, Name, Note, Owner, RolloutPercent
from rules.store import Content

log = logging.getLogger("rules.starter")

STARTER = Path(__file__).with_name("starter.yml")
AUTHOR, APPROVER = "starter", "fraud-platform"
REASON = "the starter set of a new stack"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StarterList(_Model):
    """A list of the file."""

    name: Name
    about: str
    needs_approval: bool = True
    note: Note = ""


class StarterRule(_Model):
    """A rule of the file; an exception expires so many days after it is loaded."""

    name: Name
    when: str
    answer: Answer
    owner: Owner
    state: Literal["draft", "shadow", "live"]
    lane: Literal["rule", "exception"] = "rule"
    queue: bool = False
    note: Note = ""
    rollout_percent: RolloutPercent = 100
    expires_days: int | None = Field(default=None, ge=1, le=3650)
    expected_hits_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def content(self, now: datetime) -> Content:
        """As it is stored."""
        expires_at = now + timedelta(days=self.expires_days) if self.expires_days else None
        return Content(
            self.lane, self.when, self.answer, self.queue, self.owner, self.note, self.rollout_percent, expires_at
        )


class Starter(_Model):
    """The file."""

    lists: list[StarterList] = []
    rules: list[StarterRule] = []


def load(settings: PostgresSettings, file: Path = STARTER) -> bool:
    """Fill a database in which there are no rules, lists and rulesets; returns whether it was one.

    Raises:
        UserError: the file is wrong; it names the rule and what is wrong with it. Nothing is stored then.
    """
    starter = read(file)
    connection = connect(settings, "fraud-db-init")
    try:
        with connection, connection.cursor() as cursor:
            rulesets.lock(cursor)
            if not is_empty(cursor):
                return False
            store_starter(cursor, starter, file)
    finally:
        connection.close()
    log.info("%s rules and %s lists of %s are stored", len(starter.rules), len(starter.lists), file.name)
    return True


def read(file: Path) -> Starter:
    """Parse and check a starter file.

    Raises:
        UserError: it is not one.
    """
    try:
        parsed: Any = yaml.safe_load(file.read_text())
        return Starter.model_validate(parsed)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file}: {error}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(f"{file}: {_place(parsed, wrong['loc'])}: {wrong['msg']}") from error


def is_empty(cursor: Cursor) -> bool:
    """Whether there has never been a rule, a list or a ruleset."""
    cursor.execute(
        "select not exists (select from rules) and not exists (select from lists) and not exists (select from rulesets)"
    )
    return bool(cursor.fetchall()[0][0])


def store_starter(cursor: Cursor, starter: Starter, file: Path) -> None:
    """Write everything, and the first ruleset, also if it has no rules.

    Raises:
        UserError: a rule or a list is wrong.
    """
    what = ""
    try:
        for each in starter.lists:
            what = f"list {each.name}"
            create_list(cursor, each.name, each.about, each.note, each.needs_approval, AUTHOR)
        for rule in starter.rules:
            what = f"rule {rule.name}"
            _store_rule(cursor, rule)
    except InvalidError as error:
        raise UserError(f"{file}: {what}, {error.field[0]}: {error}") from error
    except RefusedChangeError as error:
        raise UserError(f"{file}: {what}: {error}") from error
    rulesets.publish(cursor, APPROVER, REASON)


def _store_rule(cursor: Cursor, rule: StarterRule) -> None:
    version = store.create_rule(cursor, rule.name, rule.content(datetime.now(UTC)), AUTHOR, REASON)
    if rule.expected_hits_per_day is not None:
        store.set_expected_hits(
            cursor, version.rule_id, version.version, rule.expected_hits_per_day, AUTHOR, "as its file says"
        )
    if rule.state == "draft":
        return
    submitted = store.submit(cursor, rule.name, version.version, AUTHOR, REASON).version
    store.put_in_force(cursor, submitted, rule.state, APPROVER, REASON, four_eyes=True)


def _place(parsed: Any, loc: tuple[int | str, ...]) -> str:
    """Such as `rule card-testing, answer`, or `rules.3.answer` where it has no name."""
    if len(loc) >= 2 and loc[0] in ("rules", "lists"):
        named = parsed[loc[0]][loc[1]]
        if isinstance(named, dict) and isinstance(named.get("name"), str):
            return ", ".join([f"{str(loc[0])[:-1]} {named['name']}", *map(str, loc[2:])])
    return ".".join(map(str, loc)) or "the file"

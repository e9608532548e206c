"""Who works with rules: people, their keys and their roles. Callers that only have payments scored have other keys.

A person's name is in every row that the person writes, so each has a key of their own.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from rules.refusals import ForbiddenError

# The requests that need a person's key instead of a caller's.
PATHS = frozenset({"rules", "lists", "rulesets", "backtests", "replay"})
# A shorter one can be guessed.
MIN_KEY_CHARACTERS = 8

_is_name = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}").fullmatch
# The platform itself writes under these.
_RESERVED = frozenset({"author", "approver", "starter", "fraud-platform", "rules-worker"})


class Role(IntEnum):
    """What a person may do; each role includes the ones before it."""

    VIEWER = 1
    AUTHOR = 2
    APPROVER = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a key."""

    name: str
    role: Role

    def require(self, role: Role) -> None:
        """Check that the person has a role.

        Raises:
            ForbiddenError: the person's role is a lower one.
        """
        if self.role < role:
            has, needs = self.role.name.lower(), role.name.lower()
            raise ForbiddenError(f"{self.name} has the role {has}; this needs the role {needs}")


class RulesSettings(BaseSettings):
    """The people who work with rules, and whether one of them alone can make a rule live."""

    rules_author_key: str = ""
    rules_approver_key: str = ""
    # More people, divided by commas: name:role:key.
    rules_keys: str = ""
    # Whether another person than its author has to approve a rule.
    rules_four_eyes: bool = True

    @field_validator("rules_approver_key")
    @classmethod
    def _is_another_key(cls, value: str, info: ValidationInfo) -> str:
        if value and value == info.data.get("rules_author_key"):
            raise ValueError("it is the key in RULES_AUTHOR_KEY; an approver needs another one")
        return value

    @field_validator("rules_keys")
    @classmethod
    def _is_a_list_of_people(cls, value: str, info: ValidationInfo) -> str:
        names = set(_RESERVED)
        keys = {info.data.get("rules_author_key", ""), info.data.get("rules_approver_key", "")}
        for person, key in _people(value):
            if person.name in names:
                raise ValueError(f"the name {person.name} is taken; each person needs a name of their own")
            if key in keys:
                raise ValueError(f"the key of {person.name} is another person's as well")
            names.add(person.name)
            keys.add(key)
        return value

    @property
    def people(self) -> list[tuple[Person, str]]:
        """Each person with their key."""
        known = [(Person("author", Role.AUTHOR), self.rules_author_key)]
        known.append((Person("approver", Role.APPROVER), self.rules_approver_key))
        return [(person, key) for person, key in known if key] + _people(self.rules_keys)


class People:
    """The keys that are valid."""

    def __init__(self, people: Sequence[tuple[Person, str]]) -> None:
        self._people = [person for person, _ in people]
        self._keys = [key.encode() for _, key in people]

    @classmethod
    def of(cls, settings: RulesSettings) -> Self:
        """Those of the settings."""
        return cls(settings.people)

    def who(self, offered: bytes) -> Person | None:
        """The person with this key.

        It compares with every key, and each in constant time, so that the time it takes says nothing about them.
        """
        matches = [hmac.compare_digest(offered, key) for key in self._keys]
        return self._people[matches.index(True)] if offered and any(matches) else None


def is_for_people(path: str) -> bool:
    """Whether a request to this path needs a person's key."""
    parts = path.split("/", 2)
    return len(parts) > 1 and parts[1] in PATHS


def _people(text: str) -> list[tuple[Person, str]]:
    """Raises ValueError for what is not written like name:role:key; the message has no key."""
    found = []
    for number, each in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        name, _, rest = each.partition(":")
        role, _, key = rest.partition(":")
        if not key:
            raise ValueError(f"its part {number} is not like name:role:key")
        if not _is_name(name):
            raise ValueError(f"the name in part {number} is not of lower-case letters, digits, dots and dashes")
        if role.upper() not in Role.__members__:
            roles = ", ".join(each.name.lower() for each in Role)
            raise ValueError(f"the role of {name} is none of {roles}")
        if len(key) < MIN_KEY_CHARACTERS:
            raise ValueError(f"the key of {name} has fewer than {MIN_KEY_CHARACTERS} characters")
        found.append((Person(name, Role[role.upper()]), key))
    return found

"""The life of a version, as rules/states.py and the database have it."""

import re
from itertools import product
from pathlib import Path

import fraud_db
import pytest
from rules.access import Role
from rules.states import ACTIONS, STATES, State, TransitionError, actions_from, next_state

MIGRATION = Path(fraud_db.__file__).parent / "migrations/versions/v4_rules.py"


@pytest.mark.parametrize(
    ("action", "state", "to", "expected"),
    [
        ("submit", "draft", None, "submitted"),
        ("submit", "paused", None, "submitted"),
        ("approve", "submitted", "shadow", "shadow"),
        ("approve", "submitted", "live", "live"),
        ("approve", "shadow", "live", "live"),
        ("reject", "submitted", None, "draft"),
        ("pause", "live", None, "paused"),
        ("pause", "shadow", None, "paused"),
        ("retire", "live", None, "retired"),
        ("retire", "draft", None, "retired"),
    ],
)
def test_what_leads_where(action: str, state: State, to: State | None, expected: State) -> None:
    assert next_state(action, state, to) == expected


@pytest.mark.parametrize(
    ("action", "state", "to", "message"),
    [
        ("approve", "draft", "live", "to live is not possible while it is draft; possible is: submit (to submitted)"),
        ("approve", "shadow", "shadow", "to shadow is not possible while it is shadow; possible is: approve (to live)"),
        ("approve", "submitted", None, "not possible while it is submitted; possible is: approve (to shadow or"),
        ("retire", "retired", None, "retire is not possible while it is retired; this is its last state"),
        ("submit", "live", None, "possible is: pause (to paused), retire (to retired)"),
    ],
)  # fmt: skip
def test_what_does_not_says_what_would(action: str, state: State, to: State | None, message: str) -> None:
    with pytest.raises(TransitionError) as error:
        next_state(action, state, to)
    assert message in str(error.value)


def test_nothing_leads_to_force_without_an_approver() -> None:
    for action in ACTIONS.values():
        if {"shadow", "live"} & {to for targets in action.leads.values() for to in targets}:
            assert (action.name, action.role) == ("approve", Role.APPROVER)
    assert actions_from("retired") == []


def test_the_database_allows_the_same() -> None:
    allowed = {(state, to) for action in ACTIONS.values() for state, targets in action.leads.items() for to in targets}
    pairs = product(STATES, STATES)
    written = set(re.findall(r"\('([a-z]+)', '([a-z]+)'\)", MIGRATION.read_text()))
    assert {pair for pair in pairs if pair in written} == allowed

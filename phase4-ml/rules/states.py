"""The life of a version of a rule: which states there are, which actions lead from one to another, and who may do them.

    draft -> submitted -> shadow -> live -> paused -> submitted …; from any state to retired, which is the end

The database refuses other transitions too (migration v4_rules). A restored ruleset brings back the states that it had
(rules/rulesets.py): what it brings back was approved once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from rules.access import Role

type State = Literal["draft", "submitted", "shadow", "live", "paused", "retired"]

STATES: tuple[State, ...] = ("draft", "submitted", "shadow", "live", "paused", "retired")
# What serving evaluates.
IN_FORCE: tuple[State, ...] = ("shadow", "live")


@dataclass(frozen=True, slots=True)
class Action:
    """What a person with a role can do with a version, and to which states it leads from which."""

    name: str
    role: Role
    leads: Mapping[State, tuple[State, ...]]


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        action.name: action
        for action in (
            Action("submit", Role.AUTHOR, {"draft": ("submitted",), "paused": ("submitted",)}),
            Action("approve", Role.APPROVER, {"submitted": ("shadow", "live"), "shadow": ("live",)}),
            Action("reject", Role.APPROVER, {"submitted": ("draft",)}),
            Action("pause", Role.APPROVER, {"shadow": ("paused",), "live": ("paused",)}),
            Action("retire", Role.APPROVER, {state: ("retired",) for state in STATES if state != "retired"}),
        )
    }
)


class TransitionError(Exception):
    """An action that the state of a version does not allow; the message says which ones it does."""


def next_state(action: str, state: State, to: State | None = None) -> State:
    """The state to which an action leads.

    Args:
        to: which one, where there are several.

    Raises:
        TransitionError: the action is not possible, or leads elsewhere.
    """
    targets = ACTIONS[action].leads.get(state, ())
    if to is None and len(targets) == 1:
        return targets[0]
    if to in targets:
        return to
    raise TransitionError(f"{_cannot(action, to)} while it is {state}; {_possible(state)}")


def actions_from(state: State) -> list[str]:
    """What can be done with a version in this state, in the order of ACTIONS."""
    return [name for name, action in ACTIONS.items() if state in action.leads]


def _cannot(action: str, to: State | None) -> str:
    return f"{action} is not possible" if to is None else f"{action} to {to} is not possible"


def _possible(state: State) -> str:
    found = [f"{name} (to {' or '.join(ACTIONS[name].leads[state])})" for name in actions_from(state)]
    return f"possible is: {', '.join(found)}" if found else "this is its last state; add another version"

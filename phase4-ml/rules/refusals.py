"""Why a request about rules is refused: what the API answers with 403, 404, 409 and 422. Messages are for people."""

from collections.abc import Iterable
from difflib import get_close_matches

from rules.errors import RuleError


class RefusedChangeError(Exception):
    """The request is refused; nothing has changed."""


class ForbiddenError(RefusedChangeError):
    """The person may not do this."""


class NotFoundError(RefusedChangeError):
    """There is nothing of this name or number."""


class ConflictError(RefusedChangeError):
    """The state of what it is about does not allow it."""


class InvalidError(RefusedChangeError):
    """A field of the request is wrong.

    Attributes:
        field: where in the request's body, such as ("when",) or ("values", 3).
        rule_error: what is wrong with an expression, with its line and column, if it is that.
    """

    def __init__(self, field: tuple[str | int, ...], message: str, rule_error: RuleError | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.rule_error = rule_error


def not_found(what: str, name: str, known: Iterable[str]) -> NotFoundError:
    """There is no rule or list of this name; the message has similar ones."""
    similar = get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"; similar: {', '.join(similar)}" if similar else ""
    return NotFoundError(f"there is no {what} {name}{hint}")

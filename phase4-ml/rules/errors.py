"""What is wrong with a rule, and where."""

_EXCERPT_CHARACTERS = 60


class RuleError(ValueError):
    """A text is no rule. `str()` of it is one sentence for the rule's author.

    Attributes:
        message: what is wrong, without the place.
        line: the first one is 1.
        column: of the line, in characters; the first one is 1.
        excerpt: the line at that place, at most about 60 characters of it.
    """

    def __init__(self, message: str, text: str, offset: int) -> None:
        before = text[:offset]
        start = before.rfind("\n") + 1
        self.message = message
        self.line = before.count("\n") + 1
        self.column = offset - start + 1
        self.excerpt = _excerpt(text, start, offset)
        super().__init__(message, self.line, self.column, self.excerpt)

    def __str__(self) -> str:
        near = f", near {self.excerpt!r}" if self.excerpt else ""
        return f"line {self.line}, column {self.column}{near}: {self.message}"


def _excerpt(text: str, start: int, offset: int) -> str:
    """The part of the line that begins at `start` which is around `offset`."""
    first = max(start, offset - _EXCERPT_CHARACTERS // 2)
    return text[first : first + _EXCERPT_CHARACTERS].split("\n", 1)[0].strip()

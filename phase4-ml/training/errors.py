"""What a person can correct: reported as one line, without a stack trace."""


class UserError(Exception):
    """Says what is wrong, where, and the next step."""

"""Why the scorer ends. Whatever was in hand is not committed then, so the next start takes it up again."""


class ScorerError(Exception):
    """What is wrong, where, and the next step, in one line."""


class Stopping(Exception):  # noqa: N818 - no error
    """SIGTERM came while the scorer was waiting for somebody who does not answer."""

"""Why a service that reads Kafka ends. What was in hand is not committed then, so the next start takes it up again."""


class ServiceError(Exception):
    """What is wrong, where, and the next step, in one line."""


class Stopping(Exception):  # noqa: N818 - no error
    """SIGTERM came while the service was waiting for somebody who does not answer."""

"""Errors that a person can correct, and the one that ends a service that has to stop while it waits for another."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The exit code of a command that had nothing to do, which Airflow takes for "skipped".
EXIT_SKIPPED = 99


class UserError(Exception):
    """What is wrong, where, and the next step, in one line. Commands print the message without a stack trace."""


class SerializationError(ValueError):
    """Bytes that are not Avro of their schema, or a record that does not fit it; the message names the field."""


class Stopping(Exception):  # noqa: N818 - not an error
    """SIGTERM arrived while the service was waiting for another one. It has committed nothing of its current batch."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with exit code 2 and one line for a mistake that a person can correct."""
    try:
        yield
    except UserError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)

"""A connection to the database of predictions and labels, and one that is replaced when it breaks."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Concatenate

import psycopg2
from psycopg2.extensions import connection as Connection

from fraud_common.errors import Stopping
from fraud_common.settings import PostgresSettings

log = logging.getLogger("postgres")

ROLE = "fraud"
SECONDS_BETWEEN_ATTEMPTS = 2.0
SECONDS_BETWEEN_WARNINGS = 60.0


def connect(settings: PostgresSettings, application_name: str) -> Connection:
    """A new connection.

    Args:
        application_name: the name that Postgres shows beside the session.

    Raises:
        psycopg2.OperationalError: Postgres does not answer, or refuses the password.
    """
    return psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname=settings.fraud_db_name,
        user=ROLE,
        password=settings.fraud_db_password,
        connect_timeout=5,
        # A server whose machine is gone is noticed after ten seconds.
        tcp_user_timeout=10_000,
        application_name=application_name,
    )


class PatientConnection:
    """A connection that is replaced when it breaks; what is asked meanwhile waits for an answer."""

    def __init__(
        self, open_connection: Callable[[], Connection], stop: threading.Event, on_change: Callable[[bool], None]
    ) -> None:
        """Nothing is connected yet.

        Args:
            open_connection: connects.
            stop: once it is set, a failure is not tried again.
            on_change: called after each answer with True, after each failure with False.
        """
        self._open = open_connection
        self._stop = stop
        self._on_change = on_change
        self._connection: Connection | None = None

    def until_answered[**P, T](
        self, ask: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `ask(connection, *args)`, as soon as Postgres answers.

        Raises:
            Stopping: SIGTERM came first.
        """
        warned_at = -SECONDS_BETWEEN_WARNINGS
        while True:
            try:
                if self._connection is None:
                    self._connection = self._open()
                result = ask(self._connection, *args, **kwargs)
                self._on_change(True)
                return result
            except psycopg2.Error as error:
                self._on_change(False)
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
                if time.monotonic() - warned_at >= SECONDS_BETWEEN_WARNINGS:
                    warned_at = time.monotonic()
                    log.warning("postgres: %s; trying again until it answers", str(error).strip())
                if self._stop.wait(SECONDS_BETWEEN_ATTEMPTS):
                    raise Stopping(str(error)) from None

"""Transactions of the API of rules, in threads of their own: neither Postgres nor rules ever keep a payment waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rules.refusals import ConflictError

# Of each worker of the API.
THREADS = 4
# A statement ends before the request does, so that a person hears what became of it.
STATEMENT_SECONDS, REQUEST_SECONDS = 10, 20


class UnavailableError(Exception):
    """Postgres does not answer, or not in time."""


class RulesDatabase:
    """Runs functions on a cursor, each in a transaction and on a connection of its own."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="rules")

    async def run[T](self, work: Callable[[Cursor], T]) -> T:
        """The result of `work`; what it has written is committed.

        Raises:
            UnavailableError: Postgres does not answer.
            RefusedChangeError: `work` or the database refuses the change; nothing is written.
        """

        def with_cursor(connection: Connection) -> T:
            with connection.cursor() as cursor:
                cursor.execute(f"set local statement_timeout = '{STATEMENT_SECONDS}s'")
                return work(cursor)

        return await self.run_on_connection(with_cursor)

    async def run_on_connection[T](self, work: Callable[[Connection], T]) -> T:
        """The same for a function on a connection."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, work)
        try:
            return await asyncio.wait_for(running, REQUEST_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                f"Postgres has not answered within {REQUEST_SECONDS} s; scoring is not affected. Look whether the "
                "change was made before you repeat it; docker compose logs postgres"
            ) from None

    def _transaction[T](self, work: Callable[[Connection], T]) -> T:
        try:
            connection = connect(self._settings, "rules-api")
            try:
                with connection:
                    return work(connection)
            finally:
                connection.close()
        except psycopg2.IntegrityError as error:
            # The functions check first, and say more; two requests at the same time may still meet here.
            raise ConflictError(f"the database refuses it: {error.diag.message_primary}") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError, errors.UndefinedTable) as error:
            raise unavailable(error) from error


def unavailable(error: psycopg2.Error) -> UnavailableError:
    """What an error of Postgres says to a person who works with rules."""
    if isinstance(error, errors.UndefinedTable):
        return UnavailableError("the database has no tables for rules yet; docker compose logs fraud-db-init")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnavailableError(
        f"Postgres does not answer ({reason}), so rules can be neither read nor changed; scoring is not affected. "
        "Try again later; docker compose logs postgres"
    )

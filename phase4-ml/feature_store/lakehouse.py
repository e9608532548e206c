"""The connection to Trino of the programs that bring features from the lakehouse to Redis."""

from collections.abc import Iterator
from contextlib import contextmanager

from fraud_common.errors import UserError
from fraud_common.settings import TrinoSettings
from fraud_common.trino import trino_cursor
from trino.dbapi import Cursor
from trino.exceptions import TrinoQueryError


@contextmanager
def gold_cursor(settings: TrinoSettings) -> Iterator[Cursor]:
    """A cursor in the schema of Gold.

    Raises:
        UserError: Trino does not answer, or refuses a query for whatever reason.
    """
    try:
        with trino_cursor(settings, user="features", schema=settings.gold_schema) as cursor:
            yield cursor
    except TrinoQueryError as error:
        address = f"{settings.trino_host}:{settings.trino_port}"
        raise UserError(f"Trino at {address}: {error.message}; look at: docker compose logs trino") from error

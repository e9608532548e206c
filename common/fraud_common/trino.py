"""A cursor on Trino, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from trino.dbapi import Cursor, connect
from trino.exceptions import TrinoConnectionError, TrinoQueryError

from fraud_common.errors import UserError
from fraud_common.settings import TrinoSettings


@contextmanager
def trino_cursor(settings: TrinoSettings, user: str, schema: str | None = None) -> Iterator[Cursor]:
    """A cursor on the catalogue `delta`.

    Args:
        user: the name that Trino shows beside the queries.
        schema: the default schema of the queries.

    Raises:
        UserError: Trino does not answer, or a table or column is not there.
    """
    address = f"{settings.trino_host}:{settings.trino_port}"
    connection = connect(host=settings.trino_host, port=settings.trino_port, user=user, catalog="delta", schema=schema)
    try:
        yield connection.cursor()
    except (TrinoConnectionError, requests.ConnectionError, requests.Timeout) as error:
        raise UserError(f"Trino does not answer at {address}: is it up? docker compose ps trino") from error
    except TrinoQueryError as error:
        if error.error_name in ("TABLE_NOT_FOUND", "SCHEMA_NOT_FOUND"):
            raise UserError(f"{error.message}: build the tables with make dbt-run") from error
        if error.error_name == "COLUMN_NOT_FOUND":
            raise UserError(f"{error.message}: the tables are older than this program; make dbt-run FULL=1") from error
        raise
    finally:
        connection.close()


def query(cursor: Cursor, sql: str) -> list[list[Any]]:
    """All rows of one statement; it has run to its end when this returns."""
    cursor.execute(sql)
    return cursor.fetchall()

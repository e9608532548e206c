"""A cursor on Trino, and errors that say what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from trino.dbapi import Cursor, connect
from trino.exceptions import TrinoConnectionError


class LakehouseError(Exception):
    """Something that the person who runs the platform can put right; the message says how."""


@contextmanager
def cursor() -> Iterator[Cursor]:
    """A cursor on the Trino of TRINO_HOST and TRINO_PORT."""
    host, port = os.environ.get("TRINO_HOST", "trino"), int(os.environ.get("TRINO_PORT", "8080"))
    connection = connect(host=host, port=port, user="airflow", catalog="delta")
    try:
        yield connection.cursor()
    except (TrinoConnectionError, requests.ConnectionError) as error:
        raise LakehouseError(f"Trino does not answer at {host}:{port}: is it up? docker compose ps trino") from error
    finally:
        connection.close()


def query(trino: Cursor, sql: str) -> list[list[Any]]:
    """All rows of one statement; it has run to its end when this returns."""
    trino.execute(sql)
    return trino.fetchall()

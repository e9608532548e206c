"""Statements on the Trino of the stack."""

import os
from typing import Any

from fraud_common.settings import TrinoSettings
from fraud_common.trino import trino_cursor

TRINO_HOST = os.environ.get("TRINO_HOST", "trino")


def query(sql: str) -> list[dict[str, Any]]:
    """The rows of a statement, by the names of the columns; it has run to its end when this returns."""
    with trino_cursor(TrinoSettings(trino_host=TRINO_HOST), user="tests") as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
        names = [description.name for description in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in rows]

"""A database of a test alone, on the stack's Postgres, as a new stack has it: empty, and owned by the role fraud."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from fraud_common.settings import PostgresSettings
from serving_stack import POSTGRES_HOST, service


def as_superuser(command: str, database: str = "postgres") -> str:
    """The output of one command of SQL."""
    result = service("postgres").exec_run(["psql", "-h", "/tmp", "-U", "postgres", "-AtqXc", command, database])
    output = result.output.decode().strip()
    assert result.exit_code == 0, output
    return output


@contextmanager
def own_database() -> Iterator[PostgresSettings]:
    """Its settings; it is dropped at the end."""
    name = f"fraud_{uuid.uuid4().hex[:8]}"
    as_superuser(f"create database {name} owner fraud")
    try:
        yield PostgresSettings(
            postgres_host=POSTGRES_HOST, fraud_db_password=os.environ["FRAUD_DB_PASSWORD"], fraud_db_name=name
        )
    finally:
        as_superuser(f"drop database {name} with (force)")

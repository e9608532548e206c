"""A connection to the database of predictions and labels."""

import psycopg2
from psycopg2.extensions import connection as Connection

from fraud_common.settings import PostgresSettings

DATABASE = "fraud"


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
        dbname=DATABASE,
        user=DATABASE,
        password=settings.fraud_db_password,
        connect_timeout=5,
        # A server whose machine is gone is noticed after ten seconds.
        tcp_user_timeout=10_000,
        application_name=application_name,
    )

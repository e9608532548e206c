"""Runs the migrations that a database lacks; one of a release without migrations is taken over with its data.

Each migration is one transaction, or steps that can be repeated: after a kill the same command continues.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from fraud_common.errors import UserError
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

log = logging.getLogger("fraud_db")
# It logs each question to the database.
logging.getLogger("alembic").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parent / "migrations"
# Held while migrations run. It is only tried: who waits for it would be waited for by `create index concurrently`.
LOCK = text("select pg_try_advisory_lock(hashtext('fraud_db_migrations'))")


def upgrade(settings: PostgresSettings, revision: str = "head") -> None:
    """Bring the database to a revision, by default the newest.

    Raises:
        UserError: Postgres does not answer, another migration is under way, or the database is of a newer release.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with _connection(settings) as connection:
        config.attributes["connection"] = connection
        before = _revision(connection)
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            newest = ScriptDirectory.from_config(config).get_current_head()
            raise UserError(
                f"the database {settings.fraud_db_name} is at revision {before}, this release knows those up to "
                f"{newest} ({error}); start the newer release again, or restore a backup of this one"
            ) from error
        after = _revision(connection)
    log.info("the database %s is at revision %s", settings.fraud_db_name, after, extra={"before": before})


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    # The question began a transaction.
    connection.rollback()
    return revision


@contextmanager
def _connection(settings: PostgresSettings) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg2://", creator=lambda: connect(settings, "fraud-db-init"), poolclass=NullPool
    )
    # One connection for the lock, since a migration may end its transaction early, and one for the migrations.
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as lock, engine.connect() as connection:
            if not lock.execute(LOCK).scalar():
                raise UserError("another migration of this database is under way; wait for its end, then try again")
            yield connection
    except OperationalError as error:
        address = f"{settings.postgres_host}:{settings.postgres_port}"
        raise UserError(f"Postgres at {address}: {str(error.orig).strip()}; docker compose logs postgres") from error

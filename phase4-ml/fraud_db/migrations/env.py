"""How Alembic runs the migrations: on the connection that migrate.py has opened, each in a transaction of its own."""

import logging
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationInfo

log = logging.getLogger("fraud_db")


def log_step(*, step: MigrationInfo, **_: Any) -> None:
    """Called after each migration."""
    log.info("migration %s is done: %s", step.up_revision_id, step.up_revision.doc)


context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=True, on_version_apply=log_step
)
with context.begin_transaction():
    context.run_migrations()

"""The schema of the database `fraud`, as migrations by Alembic: predictions, their reasons, labels, quality, rules."""

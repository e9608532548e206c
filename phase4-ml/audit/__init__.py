"""The audit trail: every answered prediction, first in a file, then in Postgres."""

"""All rules as a table, and which ruleset is in force.

python -m rules.command
"""

import argparse
from collections.abc import Sequence

from fraud_common.errors import UserError, one_line_errors
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, load_settings
from psycopg2 import OperationalError
from psycopg2.errors import UndefinedTable

# Days of payments, whose clock is not that of the machine: the last seven that were counted.
_RULES = """
select
    name, state, version, lane, answer, queue,
    (
        select sum(hits) from rule_days
        where rule_days.rule_id = rule_versions.rule_id and rule_days.version = rule_versions.version
            and day > (select max(day) from rule_days) - 7
    ),
    -- As live if it ever was, else as shadow.
    (
        select format('%s %% (%s to %s) of %s', round((100 * "precision")::numeric, 1),
            round((100 * precision_low)::numeric, 1), round((100 * precision_high)::numeric, 1), matured)
        from rule_scorecards as card
        where card.rule_id = rule_versions.rule_id and card.version = rule_versions.version and matured > 0
        order by card.state
        limit 1
    ),
    owner, expires_at, expires_at <= now()
from rule_versions join rules using (rule_id)
where
    state <> 'retired'
    or version = (select max(version) from rule_versions as newest where newest.rule_id = rule_versions.rule_id)
order by array_position(array['live', 'shadow', 'submitted', 'paused', 'draft', 'retired'], state), name, version
"""
_RULESET = "select ruleset_id, created_at, created_by, reason from rulesets order by ruleset_id desc limit 1"
HEADER = ("name", "state", "version", "answer", "queue", "hits, 7 days", "precision, matured", "owner", "expires")


def table(settings: PostgresSettings) -> str:
    """What the command prints.

    Raises:
        UserError: Postgres does not answer, or has no rules.
    """
    try:
        connection = connect(settings, "rules-command")
    except OperationalError as error:
        raise UserError(f"Postgres: {str(error).strip()}; docker compose logs postgres") from error
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(_RULES)
            rules = [_row(*row) for row in cursor.fetchall()]
            cursor.execute(_RULESET)
            newest = cursor.fetchone()
    except UndefinedTable as error:
        raise UserError("the database has no rules yet; docker compose logs fraud-db-init") from error
    finally:
        connection.close()
    if newest is None:
        in_force = "no ruleset is in force; docker compose logs fraud-db-init"
    else:
        ruleset_id, at, by, reason = newest
        in_force = f"ruleset {ruleset_id} is in force since {at:%Y-%m-%d %H:%M} UTC, by {by}: {reason}"
    return "\n".join([*aligned([HEADER, *rules]), "", in_force])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns begin at the same place."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(
    name: str, state: str, version: int, lane: str, answer: str, queue: bool, hits: object, precision: str | None,
    owner: str, expires_at: object, expired: bool | None,
) -> tuple[str, ...]:  # fmt: skip
    answered = f"{answer} (exception)" if lane == "exception" else answer
    expires = f"{expires_at:%Y-%m-%d}{' (expired)' if expired else ''}" if expires_at else ""
    counted = (f"{hits or 0:,}", precision or "")
    return (name, state, str(version), answered, "yes" if queue else "no", *counted, owner, expires)


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m rules.command", description=__doc__.splitlines()[0]).parse_args()
    with one_line_errors():
        print(table(load_settings(PostgresSettings)))


if __name__ == "__main__":
    main()

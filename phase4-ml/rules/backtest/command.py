"""Asks for a backtest, shows how far it is, and prints its report.

python -m rules.backtest.command --rule new-device-high-amount --days 30
python -m rules.backtest.command --when 'amount > 500 and is_new_device_30d' --answer challenge --to 2026-11-01

rules/worker.py runs it, as it does those of the API: the report is stored, and GET /backtests/… has it, too. Ctrl-C
cancels it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from fraud_common.errors import UserError, one_line_errors
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings, load_settings
from psycopg2 import OperationalError
from psycopg2.errors import UndefinedTable
from psycopg2.extensions import connection as Connection

from rules import backtests_table
from rules.backtest.request import ANSWERS, Request
from rules.backtest.show import show
from rules.backtests_table import Backtest
from rules.language import RuleError, parse
from rules.refusals import RefusedChangeError

BY = "make"
POLL_SECONDS = 0.5
# After so long without a start, the worker may be down.
PATIENCE_SECONDS = 15.0


def request_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of a request; those that were not given are not there.

    Raises:
        UserError: they make no request, or the condition is wrong.
    """
    request = {name: value for name, value in vars(arguments).items() if value is not None}
    asked = Request.of(request)
    if asked.when:
        try:
            # A mistake is known before anything waits.
            parse(asked.when)
        except RuleError as error:
            raise UserError(str(error)) from error
    return request


def follow(connection: Connection, backtest_id: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The report, once there is one; until then, what is being done.

    Raises:
        UserError: it failed, or was cancelled.
    """
    said, started = "", time.monotonic()
    while True:
        with connection, connection.cursor() as cursor:
            found, report = backtests_table.get_backtest(cursor, backtest_id)
        if report is not None:
            return report
        if found.state in ("failed", "cancelled"):
            raise UserError(f"backtest {backtest_id} {found.state}: {found.message}")
        waited = time.monotonic() - started
        if (news := _news(found, waited)) != said:
            said = news
            say(news)
        time.sleep(POLL_SECONDS)


def _news(found: Backtest, waited: float) -> str:
    if found.state == "running":
        return f"backtest {found.backtest_id}: {found.progress:.0%}, {found.message}"
    if waited < PATIENCE_SECONDS:
        return f"backtest {found.backtest_id} waits"
    return (
        f"backtest {found.backtest_id} still waits: for another one, or for its worker; docker compose ps rules-worker"
    )


def ask_and_follow(connection: Connection, request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Put a backtest in the queue, and see it through; a signal cancels it.

    Raises:
        UserError: too many wait, or it failed.
    """
    try:
        with connection, connection.cursor() as cursor:
            asked = backtests_table.ask(cursor, request, BY)
    except RefusedChangeError as error:
        raise UserError(str(error)) from error
    try:
        return follow(connection, asked.backtest_id, say)
    except KeyboardInterrupt:
        with connection, connection.cursor() as cursor:
            backtests_table.cancel(cursor, asked.backtest_id, BY)
        raise UserError(f"backtest {asked.backtest_id} is cancelled") from None


def parse_arguments() -> argparse.Namespace:
    """The command line; names are those of a request's fields."""
    parser = argparse.ArgumentParser(prog="python -m rules.backtest.command", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rule", help="the name of a rule; its newest version is compared with the live one")
    what.add_argument("--when", help="a condition that is no rule yet")
    what.add_argument("--threshold", type=float, help="a score, instead of that of tier high")
    parser.add_argument("--version", type=int, help="of the rule (default: the newest)")
    parser.add_argument("--answer", choices=ANSWERS, help="of the condition (default: challenge)")
    parser.add_argument("--queue", action="store_true", default=None, help="the condition queues payments")
    parser.add_argument("--compare-to", help="the rule that the condition changes")
    parser.add_argument("--days", type=int, help="how many days (default: 30)")
    parser.add_argument("--from", help="the first day, in UTC, instead of --days")
    parser.add_argument("--to", help="the last day (default: the newest whose labels have matured)")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """The command line."""
    with one_line_errors():
        request = request_of(parse_arguments())
        try:
            with closing(connect(load_settings(PostgresSettings), "rules-backtest")) as connection:
                report = ask_and_follow(connection, request, _say)
        except UndefinedTable as error:
            raise UserError("the database has no backtests yet; docker compose logs fraud-db-init") from error
        except OperationalError as error:
            raise UserError(f"Postgres: {str(error).strip()}; docker compose logs postgres") from error
    print(show(report))


if __name__ == "__main__":
    main()

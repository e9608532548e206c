"""Brings the database of predictions and labels to this release, before the services that use it start.

A database without rules gets the starter set (rules/starter.yml).

python -m fraud_db
"""

import argparse

from fraud_common.errors import one_line_errors
from fraud_common.logs import set_up_logging
from fraud_common.settings import PostgresSettings, load_settings
from rules import starter

from fraud_db.migrate import upgrade


def main() -> None:
    """The command line."""
    argparse.ArgumentParser(prog="python -m fraud_db", description=__doc__.splitlines()[0]).parse_args()
    set_up_logging()
    with one_line_errors():
        settings = load_settings(PostgresSettings)
        upgrade(settings)
        starter.load(settings)


if __name__ == "__main__":
    main()

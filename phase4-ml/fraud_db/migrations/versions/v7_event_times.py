"""A backtest reads the predictions of some days of payments; without an index it would read all that there are.

Predictions are stored by the time at which they were made, and payments happen in nearly the same order. So an index of
the ranges of event times (BRIN) suffices, which has a few KiB for a day, and of which storing a row notices nothing.
"""

import time

from alembic import op
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

revision = "7"
down_revision = "6"

INDEX = "predictions_of_event_time"
# New rows are in the index soon, and not only after a vacuum.
RANGES = "using brin (event_time) with (autosummarize = on)"
DAYS = "select inhrelid::regclass::text from pg_inherits where inhparent = 'predictions'::regclass order by 1"
NOT_VALID = "select count(*) from pg_index where indexrelid = to_regclass(:name) and not indisvalid"
LOCK_ATTEMPTS = 150


def upgrade() -> None:
    """Create the index of each day while it is in use, then that of the table, which takes them over."""
    with op.get_context().autocommit_block():
        for (day,) in op.get_bind().execute(text(DAYS)).fetchall():
            name = f"{day}_event_time"
            # What a kill has left.
            if op.get_bind().execute(text(NOT_VALID), {"name": name}).scalar():
                op.execute(f"drop index concurrently {name}")
            index = name.rpartition(".")[2]
            op.execute(f"create index concurrently if not exists {index} on {day} {RANGES}")
    # A moment, but it waits for every query on the table, and behind it others wait: so in short attempts.
    for attempt in range(LOCK_ATTEMPTS):
        try:
            with op.get_bind().begin_nested():
                op.execute("set local lock_timeout = '2s'")
                op.execute(f"create index {INDEX} on predictions {RANGES}")
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected) or attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(2)

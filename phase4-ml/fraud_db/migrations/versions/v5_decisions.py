"""What was decided about each payment and by which ruleset, and a number that says when lists have changed."""

import time

from alembic import op
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy.exc import OperationalError

revision = "5"
down_revision = "4"

# Without a default, so that no row is written again. Rows of earlier releases have NULL everywhere.
COLUMNS = """
set local lock_timeout = '2s';
alter table predictions
    add column decision text,
    add column queue boolean,
    add column ruleset_id bigint, -- null: there was none
    -- {"fired": [[rule_id, version], ...] of live rules, "shadow": [...], "threw": [...], "suppressed": [...],
    -- "model": its answer alone, "would": the answer that the hold-out replaced}
    add column rule_results jsonb,
    add column held_out boolean,
    -- The payment as it was sent; what rules see of it.
    add column currency text,
    add column country text,
    add column device_id text,
    add column device_type text,
    add column merchant_category text,
    add column unknown_features text -- the groups of features that were defaults, with commas between them
"""
LOCK_ATTEMPTS = 150
# Workers ask for one number every two seconds, instead of reading all entries of lists.
CHANGES = """
create table list_changes (
    only_row boolean primary key default true check (only_row),
    version bigint not null default 0
);
insert into list_changes default values;
create function count_list_change() returns trigger language plpgsql as $$
begin
    update list_changes set version = version + 1;
    return null;
end $$;
create trigger lists_changed after insert or update on lists execute function count_list_change();
create trigger list_entries_changed after insert or update on list_entries execute function count_list_change();
create trigger suppressions_changed after insert or update on suppressions execute function count_list_change();
"""


def upgrade() -> None:
    """Add the columns, and the number."""
    _add_columns()
    op.execute(CHANGES)


def _add_columns() -> None:
    """It takes a moment, but waits for every query on the table, and behind it others wait: so in short attempts."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            with op.get_bind().begin_nested():
                op.execute(COLUMNS)
            return
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected) or attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(2)

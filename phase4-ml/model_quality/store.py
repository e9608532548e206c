"""The table `labels` in Postgres: what became known of payments, for counts.py.

The API's tables are created here, too, if the API has not done so yet.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from audit.tables import create_tables
from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from model_quality import counts

TABLE = """
select pg_advisory_xact_lock(hashtext('labels'));
create table if not exists labels (
    transaction_id text primary key,
    user_id text not null,
    is_fraud boolean not null,
    fraud_type text,
    event_time timestamptz not null,
    reported_at timestamptz not null,
    stored_at timestamptz not null default now()
);
create index if not exists labels_event_time on labels (event_time);
-- Small, so that it stays in memory: each new score is looked up in it.
create index if not exists labels_of_frauds on labels (transaction_id) where is_fraud;
-- Columns of an earlier release. Without a condition this would lock the table at each start.
do $$ begin
    if exists (
        select from pg_attribute where attrelid = 'labels'::regclass and attname = 'risk_tier' and not attisdropped
    ) then
        alter table labels drop column fraud_probability, drop column risk_tier, drop column model_version;
    end if;
end $$;
"""
CLOCK = """
insert into quality_clock (newest_label)
select (select max(reported_at) from labels) where not exists (select from quality_clock)
"""
# A label may be revised; an older one that is read again changes nothing.
UPSERT = """
insert into labels (transaction_id, user_id, is_fraud, fraud_type, event_time, reported_at)
values %s
on conflict (transaction_id) do update set
    is_fraud = excluded.is_fraud, fraud_type = excluded.fraud_type, reported_at = excluded.reported_at
where excluded.reported_at > labels.reported_at
returning transaction_id, is_fraud, reported_at
"""


def open_connection(settings: PostgresSettings) -> Connection:
    """A connection to the API's database, with all tables and the view of model quality.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    connection = connect(settings, "model-quality")
    create_tables(connection)
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute(counts.TABLES)
        cursor.execute(CLOCK)
    return connection


def store_labels(connection: Connection, labels: Iterable[Mapping[str, Any]]) -> None:
    """Store records of the schema FraudLabel (the newest of each payment), and count those of scored payments.

    All in one transaction, and a label that is stored already changes nothing: after a crash they are stored again.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for label in labels:
        known = newest.get(label["transaction_id"])
        if known is None or label["reported_at"] > known["reported_at"]:
            newest[label["transaction_id"]] = label
    names = ("transaction_id", "user_id", "is_fraud", "fraud_type", "event_time", "reported_at")
    # In a fixed order, so that two processes can't deadlock.
    rows = [tuple(newest[transaction_id][name] for name in names) for transaction_id in sorted(newest)]
    with connection, connection.cursor() as cursor:
        counts.lock_cursors(cursor)
        cursor.execute("select transaction_id from labels where is_fraud and transaction_id = any(%s)", (list(newest),))
        frauds_before = {transaction_id for (transaction_id,) in cursor.fetchall()}
        stored = execute_values(cursor, UPSERT, rows, page_size=len(rows), fetch=True)
        if not stored:
            return
        fraud_now = {transaction_id: is_fraud for transaction_id, is_fraud, _ in stored}
        counts.count_relabelled(cursor, changes(frauds_before, fraud_now))
        newest_label = max(reported_at for _, _, reported_at in stored)
        cursor.execute("update quality_clock set newest_label = greatest(newest_label, %s)", (newest_label,))


def changes(frauds_before: set[str], fraud_now: Mapping[str, bool]) -> dict[str, int]:
    """The payments whose label says something else than before: 1 for a known fraud, -1 for one that is none after all.

    Args:
        frauds_before: the known frauds among them.
        fraud_now: the labels that are new or newer.
    """
    differences = {name: is_fraud - (name in frauds_before) for name, is_fraud in fraud_now.items()}
    return {name: difference for name, difference in differences.items() if difference}


def delay_seconds(label: Mapping[str, Any]) -> float:
    """How many seconds after its payment a label became known."""
    reported: datetime = label["reported_at"]
    return (reported - label["event_time"]).total_seconds()

"""The table `labels` in Postgres: what became known of payments, for counts.py."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from model_quality import counts

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
    """A connection to the database of predictions and labels.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    return connect(settings, "model-quality")


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

"""The table `labels` in Postgres: labels beside the predictions of their payments, for precision and recall.

The API counts the payments of each day, version and tier in `prediction_days`; this counts the known frauds among them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fraud_common.postgres import connect
from fraud_common.settings import PostgresSettings
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

# After so many days a day's frauds are nearly all known, as in training.
MATURED_AFTER_DAYS = 14
# Quality is counted over so many days.
WINDOW_DAYS = 44

TABLE = """
select pg_advisory_xact_lock(hashtext('labels'));
create table if not exists labels (
    transaction_id text primary key,
    user_id text not null,
    is_fraud boolean not null,
    fraud_type text,
    event_time timestamptz not null,
    reported_at timestamptz not null,
    stored_at timestamptz not null default now(),
    -- Of the payment's first prediction; null while there is none.
    fraud_probability double precision,
    risk_tier text,
    model_version text
);
create index if not exists labels_event_time on labels (event_time);
create index if not exists labels_without_prediction on labels (stored_at) where risk_tier is null;
"""
# A label may be revised; an older one that is read again changes nothing.
UPSERT = """
insert into labels (transaction_id, user_id, is_fraud, fraud_type, event_time, reported_at)
values %s
on conflict (transaction_id) do update set
    is_fraud = excluded.is_fraud, fraud_type = excluded.fraud_type, reported_at = excluded.reported_at
where excluded.reported_at > labels.reported_at
"""
# A prediction may come after the label, since predictions wait in the API's files while Postgres is down.
JOIN = """
update labels
set fraud_probability = first.fraud_probability, risk_tier = first.risk_tier, model_version = first.model_version
from labels as open
cross join lateral (
    select fraud_probability, risk_tier, model_version
    from predictions
    where predictions.transaction_id = open.transaction_id
    order by predicted_at
    limit 1
) as first
where
    open.risk_tier is null
    and open.stored_at > now() - interval '1 hour'
    and labels.transaction_id = open.transaction_id
"""
# Days are those of event time, and today is that of the newest label: the simulated clock runs faster than a real one.
COUNT = """
with clock as (
    select (max(reported_at) at time zone 'UTC')::date as today from labels
), known as (
    select (event_time at time zone 'UTC')::date as event_day, model_version, risk_tier, 0 as payments, 1 as frauds
    from labels
    where is_fraud and risk_tier is not null
    union all
    select event_day, model_version, risk_tier, payments, 0 as frauds from prediction_days
)
select model_version, risk_tier, event_day <= today - %(matured_after)s, sum(payments)::bigint, sum(frauds)::bigint
from known
cross join clock
where event_day between today - %(window)s and today
group by 1, 2, 3
"""


@dataclass(frozen=True)
class Quality:
    """How many payments a model version put into a tier, and how many of them are known frauds by now."""

    model_version: str
    risk_tier: str
    matured: bool
    payments: int
    known_frauds: int


def open_connection(settings: PostgresSettings) -> Connection:
    """A connection to the API's database, with the table `labels`.

    Raises:
        psycopg2.Error: Postgres does not answer, or refuses it.
    """
    connection = connect(settings, "model-quality")
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
    return connection


def store_labels(connection: Connection, labels: Iterable[Mapping[str, Any]]) -> None:
    """Store records of the schema FraudLabel; of several of one payment, the newest."""
    newest: dict[str, Mapping[str, Any]] = {}
    for label in labels:
        known = newest.get(label["transaction_id"])
        if known is None or label["reported_at"] > known["reported_at"]:
            newest[label["transaction_id"]] = label
    names = ("transaction_id", "user_id", "is_fraud", "fraud_type", "event_time", "reported_at")
    rows = [tuple(label[name] for name in names) for label in newest.values()]
    with connection, connection.cursor() as cursor:
        execute_values(cursor, UPSERT, rows, page_size=len(rows))


def count_quality(connection: Connection) -> list[Quality]:
    """Counts by version and tier, of days with matured labels and of newer ones; empty while there is no label."""
    with connection, connection.cursor() as cursor:
        # The API creates the table with its first prediction.
        cursor.execute("select to_regclass('prediction_days') is not null")
        if cursor.fetchall() == [(False,)]:
            return []
        cursor.execute(JOIN)
        cursor.execute(COUNT, {"matured_after": MATURED_AFTER_DAYS, "window": WINDOW_DAYS})
        return [Quality(*row) for row in cursor.fetchall()]


def delay_seconds(label: Mapping[str, Any]) -> float:
    """How many seconds after its payment a label became known."""
    reported: datetime = label["reported_at"]
    return (reported - label["event_time"]).total_seconds()

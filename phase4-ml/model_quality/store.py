"""Labels beside the predictions that they judge, in Postgres: what precision and recall are counted from.

The API counts the payments of each day, version and tier in `prediction_days`; here are the known frauds among them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

# Known frauds of a day are nearly complete after so many days, as in training; and so far back quality is looked at.
SETTLED_DAYS = 14
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
"""
# A label may be revised; an older verdict that comes again changes nothing.
UPSERT = """
insert into labels (transaction_id, user_id, is_fraud, fraud_type, event_time, reported_at)
values %s
on conflict (transaction_id) do update set
    is_fraud = excluded.is_fraud, fraud_type = excluded.fraud_type, reported_at = excluded.reported_at
where excluded.reported_at > labels.reported_at
"""
# Predictions may come after the label, since they wait in the API's file while Postgres is away.
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
# Days are those of event time, and today is the newest label's day: the simulated clock runs faster than the real one.
COUNT = """
with clock as (
    select (max(reported_at) at time zone 'UTC')::date as today from labels
), judged as (
    select (event_time at time zone 'UTC')::date as event_day, model_version, risk_tier, 0 as payments, 1 as frauds
    from labels
    where is_fraud and risk_tier is not null
    union all
    select event_day, model_version, risk_tier, payments, 0 as frauds from prediction_days
)
select model_version, risk_tier, event_day <= today - %(settled)s as settled, sum(payments)::bigint, sum(frauds)::bigint
from judged
cross join clock
where event_day between today - %(window)s and today
group by 1, 2, 3
"""


@dataclass(frozen=True)
class Quality:
    """Payments that a version of the model gave a tier, and how many of them are known frauds by now."""

    model_version: str
    risk_tier: str
    settled: bool
    payments: int
    known_frauds: int


def connect(host: str, port: int, password: str) -> Connection:
    """A connection to the database of the API; the tables are made where they are missing.

    Raises:
        psycopg2.Error: it can't be had.
    """
    connection = psycopg2.connect(
        host=host,
        port=port,
        dbname="fraud",
        user="fraud",
        password=password,
        connect_timeout=5,
        tcp_user_timeout=10_000,
        application_name="model-quality",
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
    return connection


def store(connection: Connection, labels: Iterable[Mapping[str, Any]]) -> None:
    """Keep labels, records of schema FraudLabel; of several of one payment the newest."""
    newest: dict[str, Mapping[str, Any]] = {}
    for label in labels:
        known = newest.get(label["transaction_id"])
        if known is None or label["reported_at"] > known["reported_at"]:
            newest[label["transaction_id"]] = label
    names = ("transaction_id", "user_id", "is_fraud", "fraud_type", "event_time", "reported_at")
    rows = [tuple(label[name] for name in names) for label in newest.values()]
    with connection, connection.cursor() as cursor:
        execute_values(cursor, UPSERT, rows, page_size=len(rows))


def count(connection: Connection) -> list[Quality]:
    """Quality by version and tier, of settled payments and of the others; empty while there is no label."""
    with connection, connection.cursor() as cursor:
        # Made by the API with its first prediction.
        cursor.execute("select to_regclass('prediction_days') is not null")
        if cursor.fetchall() == [(False,)]:
            return []
        cursor.execute(JOIN)
        cursor.execute(COUNT, {"settled": SETTLED_DAYS, "window": WINDOW_DAYS})
        return [Quality(*row) for row in cursor.fetchall()]


def label_age(label: Mapping[str, Any]) -> float:
    """How many seconds after its payment a label became known."""
    reported: datetime = label["reported_at"]
    return (reported - label["event_time"]).total_seconds()

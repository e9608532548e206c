"""The tables of scores of live payments: `predictions` of what serves, with reasons and with counts by the minute,
`shadow_predictions` of Staging.

The first to connect creates them: the API, model-quality, shadow or the explainer.
"""

from psycopg2.extensions import connection as Connection

TABLES = """
select pg_advisory_xact_lock(hashtext('predictions'));
create sequence if not exists predictions_position;
create table if not exists predictions (
    prediction_id uuid primary key,
    transaction_id text not null,
    user_id text not null,
    merchant_id text not null,
    amount double precision not null,
    is_international boolean not null,
    event_time timestamptz not null,
    fraud_probability double precision not null,
    risk_tier text not null,
    model_version text not null,
    feature_source text not null,
    feature_age_seconds double precision,
    features jsonb not null,
    latency_ms double precision not null,
    predicted_at timestamptz not null,
    position bigint default nextval('predictions_position')
);
-- A table of an earlier release: its rows have no position. Without a condition, each start would lock the table.
do $$ begin
    if not exists (
        select from pg_attribute where attrelid = 'predictions'::regclass and attname = 'position' and not attisdropped
    ) then
        alter table predictions add column position bigint;
        alter table predictions alter column position set default nextval('predictions_position');
    end if;
end $$;
create unique index if not exists predictions_by_position on predictions (position);
-- With the time, or Postgres may search for a payment's first prediction in the index of times, from the beginning.
create index if not exists predictions_of_transaction on predictions (transaction_id, predicted_at);
drop index if exists predictions_transaction_id; -- that of earlier releases
create index if not exists predictions_predicted_at on predictions (predicted_at);
drop table if exists prediction_days; -- that of earlier releases
-- The reasons of scores of tier medium and high; a row without them is work for the explainer.
create table if not exists prediction_reasons (
    prediction_id uuid primary key,
    predicted_at timestamptz not null,
    reasons jsonb, -- [{"name", "value", "effect"}, ...], the largest effect first
    unexplained text, -- why there are none
    explained_at timestamptz
);
create index if not exists prediction_reasons_waiting on prediction_reasons (predicted_at) where reasons is null;
-- Counts and sums of the predictions by the minute (of predicted_at), for charts that would read 90,000 rows otherwise.
-- The sink keeps it in the transaction that stores the predictions; rows are updated in place, hence the free space.
create table if not exists prediction_minutes (
    minute timestamptz not null,
    risk_tier text not null,
    feature_source text not null,
    model_version text not null,
    is_international boolean not null,
    score_band double precision not null, -- lower edge of a band of 0.05
    payments bigint not null,
    amount double precision not null,
    fraud_probability double precision not null,
    latency_ms double precision not null,
    primary key (minute, risk_tier, feature_source, model_version, is_international, score_band)
) with (fillfactor = 50);
-- What the Staging model would have answered. The position is that of the prediction.
create table if not exists shadow_predictions (
    position bigint primary key,
    prediction_id uuid not null,
    transaction_id text not null,
    event_time timestamptz not null,
    model_version text not null,
    fraud_probability double precision not null,
    risk_tier text not null,
    scored_at timestamptz not null default now()
);
create index if not exists shadow_predictions_of_transaction on shadow_predictions (transaction_id);
-- One row: up to which position predictions were scored, and by which version; null while none is in Staging.
create table if not exists shadow_cursor (
    only_row boolean primary key default true check (only_row),
    model_version text,
    position bigint not null default 0
);
insert into shadow_cursor default values on conflict do nothing;
"""


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing."""
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)

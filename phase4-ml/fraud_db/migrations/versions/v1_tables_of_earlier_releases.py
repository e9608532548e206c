"""The tables as the releases before migrations made them, each service those that it needed.

An existing database is taken over: what is there stays, also the tables of older releases, which lack some columns.
"""

from alembic import op

revision = "1"
down_revision = None

SCORES = """
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
LABELS = """
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
QUALITY = """
create table if not exists quality_days (
    event_day date not null,
    role text not null,
    model_version text not null,
    risk_tier text not null,
    score_bin smallint not null,
    payments bigint not null,
    frauds bigint not null,
    score_sum double precision not null,
    primary key (role, event_day, model_version, risk_tier, score_bin)
);
-- Up to which position the scores are counted. Whoever counts locks these rows first.
create table if not exists quality_cursors (role text primary key, position bigint not null);
insert into quality_cursors values ('production', 0), ('staging', 0) on conflict do nothing;
-- One row. Today is the day of the newest label: the simulated clock runs faster than a real one.
create table if not exists quality_clock (
    only_row boolean primary key default true check (only_row),
    newest_label timestamptz
);
create or replace view quality_weeks as
with clock as (
    select (newest_label at time zone 'UTC')::date as today from quality_clock
), bins as (
    select
        role, model_version, date_trunc('week', event_day::timestamp)::date as week, score_bin,
        sum(payments) as payments, sum(frauds) as frauds, sum(score_sum) as score_sum,
        coalesce(sum(payments) filter (where risk_tier = 'high'), 0) as payments_high,
        coalesce(sum(frauds) filter (where risk_tier = 'high'), 0) as frauds_high
    from quality_days
    group by 1, 2, 3, 4
), ranked as (
    select
        *,
        sum(payments) over highest_first as payments_from_here,
        sum(frauds) over highest_first as frauds_from_here,
        sum(payments) over whole as payments_of_week
    from bins
    window
        whole as (partition by role, model_version, week),
        highest_first as (partition by role, model_version, week order by score_bin desc)
), grouped as (
    -- A bin belongs to the group that its middle payment is in.
    select *, floor(20 * (payments_from_here - payments / 2) / payments_of_week) as score_group
    from ranked
), calibrated as (
    select
        role, model_version, week, abs(sum(score_sum) - sum(frauds)::double precision) as error,
        sum(payments) as payments, sum(frauds) as frauds, sum(score_sum) as score_sum,
        sum(payments_high) as payments_high, sum(frauds_high) as frauds_high,
        sum(frauds * frauds_from_here / payments_from_here) as precision_of_frauds
    from grouped
    group by role, model_version, week, score_group
)
select
    role,
    model_version,
    week,
    -- Whether the last day's frauds are nearly all known; before that, precision and recall are too low.
    coalesce(week + 6 <= (select today from clock) - 14, false) as matured,
    sum(payments)::bigint as payments,
    sum(frauds)::bigint as frauds,
    (sum(frauds_high) / nullif(sum(payments_high), 0))::double precision as precision_high,
    (sum(frauds_high) / nullif(sum(frauds), 0))::double precision as recall_high,
    -- The mean over all frauds of the precision at their score.
    (sum(precision_of_frauds) / nullif(sum(frauds), 0))::double precision as average_precision,
    sum(score_sum) / sum(payments)::double precision as mean_score,
    (sum(frauds) / sum(payments))::double precision as fraud_rate,
    sum(error) / sum(payments)::double precision as calibration_error
from calibrated
group by role, model_version, week;
insert into quality_clock (newest_label)
select (select max(reported_at) from labels) where not exists (select from quality_clock);
"""


def upgrade() -> None:
    """Create what is missing."""
    # The services of an earlier release create their tables under these locks.
    op.execute("select pg_advisory_xact_lock(hashtext('predictions')), pg_advisory_xact_lock(hashtext('labels'))")
    for statements in (SCORES, LABELS, QUALITY):
        op.execute(statements)

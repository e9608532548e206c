"""What decisions and rules did, by day of the payments, and scorecards of the rules; backtests know their attempts.

rules/scorecards.py fills the tables. The console, `make rules`, the API and Superset read the view rule_scorecards.
"""

from alembic import op

revision = "6"
down_revision = "5"

COUNTS = """
-- Beyond the model: hits on payments that the model alone would have let pass, or not shown to an analyst.
alter table rule_days
    add column marginal_hits bigint not null default 0,
    add column marginal_frauds bigint not null default 0,
    add column last_hit_at timestamptz; -- by the wall clock
create table decision_days (
    day date not null, -- of the payment
    decision text not null,
    queue boolean not null,
    held_out boolean not null,
    payments bigint not null,
    amount double precision not null, -- in the reference currency
    expected_frauds double precision not null,
    matured bigint not null,
    frauds bigint not null,
    primary key (day, decision, queue, held_out)
);
-- Live hits by the hour of the payment, for the guard against runaways; old ones are deleted.
create table rule_hours (
    rule_id bigint not null,
    version integer not null,
    hour timestamptz not null,
    hits bigint not null,
    counted_at timestamptz not null default now(), -- by the wall clock
    primary key (rule_id, version, hour)
);
-- One row: up to which position predictions are counted. Those before this migration have no decision.
create table rule_cursor (
    only_row boolean primary key default true check (only_row),
    position bigint not null
);
insert into rule_cursor (position)
select case when is_called then last_value else 0 end from predictions_position;
alter table backtests add column attempts integer not null default 0;
"""
# Changes of labels wait here until the counts have them; the trigger sees whoever changes a label.
CHANGES = """
create table rule_label_changes (
    transaction_id text not null,
    change smallint not null -- 1: it became a known fraud; -1: it is none after all
);
create function note_label_change() returns trigger language plpgsql as $$
begin
    insert into rule_label_changes values (new.transaction_id, case when new.is_fraud then 1 else -1 end);
    return null;
end $$;
create trigger labels_new after insert on labels for each row when (new.is_fraud)
    execute function note_label_change();
create trigger labels_revised after update on labels for each row when (new.is_fraud <> old.is_fraud)
    execute function note_label_change();
"""
# Intervals of Wilson, at 95 %: 3.8415 is the square of 1.96.
SCORECARDS = """
create view rule_scorecards as
with totals as (
    select
        rule_id, version, state,
        min(day) as first_day,
        max(day) as last_day,
        max(last_hit_at) as last_hit_at,
        sum(hits)::bigint as hits,
        sum(queue_hits)::bigint as queue_hits,
        sum(marginal_hits)::bigint as marginal_hits,
        sum(amount) as amount,
        sum(frauds)::bigint as frauds,
        sum(expected_frauds) as expected_frauds,
        coalesce(sum(matured), 0)::double precision as matured,
        coalesce(sum(frauds) filter (where matured > 0), 0)::double precision as matured_frauds,
        coalesce(sum(expected_frauds) filter (where matured > 0), 0) as matured_expected_frauds,
        coalesce(sum(marginal_hits) filter (where matured > 0), 0)::double precision as matured_marginal_hits,
        coalesce(sum(marginal_frauds) filter (where matured > 0), 0)::double precision as matured_marginal_frauds
    from rule_days
    group by rule_id, version, state
), rates as (
    select *, matured_frauds / nullif(matured, 0) as "precision"
    from totals
)
select
    rule_id,
    rules.name,
    rates.version,
    rates.state, -- of the hits: live or shadow
    rule_versions.state as state_now,
    rule_versions.lane,
    rule_versions.answer,
    rule_versions.queue,
    rule_versions.expected_hits_per_day, -- by its backtest
    first_day,
    last_day,
    last_hit_at,
    hits,
    hits::double precision / (last_day - first_day + 1) as hits_per_day,
    queue_hits,
    amount,
    frauds, -- known so far
    expected_frauds,
    expected_frauds / nullif(hits, 0) as expected_precision,
    -- Of payments whose labels have matured.
    matured::bigint as matured,
    matured_frauds::bigint as matured_frauds,
    "precision",
    greatest(0, (
        "precision" + 3.8415 / (2 * nullif(matured, 0))
        - 1.96 * sqrt("precision" * (1 - "precision") / nullif(matured, 0) + 3.8415 / (4 * nullif(matured, 0) ^ 2))
    ) / (1 + 3.8415 / nullif(matured, 0))) as precision_low,
    least(1, (
        "precision" + 3.8415 / (2 * nullif(matured, 0))
        + 1.96 * sqrt("precision" * (1 - "precision") / nullif(matured, 0) + 3.8415 / (4 * nullif(matured, 0) ^ 2))
    ) / (1 + 3.8415 / nullif(matured, 0))) as precision_high,
    matured_expected_frauds / nullif(matured, 0) as matured_expected_precision,
    -- Beyond the model alone.
    marginal_hits,
    matured_marginal_hits::bigint as matured_marginal_hits,
    matured_marginal_frauds::bigint as matured_marginal_frauds,
    matured_marginal_frauds / nullif(matured_marginal_hits, 0) as marginal_precision
from rates
join rules using (rule_id)
join rule_versions using (rule_id, version);
"""


def upgrade() -> None:
    """Create them, empty."""
    for statements in (COUNTS, CHANGES, SCORECARDS):
        op.execute(statements)

"""Counts what decisions and rules did, by day of the payments: `decision_days`, `rule_days`, and `rule_hours`.

Upstream are `predictions` with their `rule_results`, and `labels`; downstream are the view rule_scorecards
(fraud_db/migrations) and the guard against runaways (runaway.py). As in model_quality/counts.py, each stored prediction
is counted once, in the order of positions, and the first prediction of a payment counts.

A fraud counts once, with its prediction if the label is there by then, else when the label comes: a trigger puts what
changes about labels into `rule_label_changes`. Both are read in one snapshot, so a label is either a change for a
payment that was counted before, or it is beside a payment that is counted now.
"""

import json

from audit.positions import stored_until
from model_quality.counts import AGAIN_WITHIN_DAYS, CHUNK, MATURED_AFTER_DAYS
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rules.rates import stored_rates

# Rows of rule_hours serve the guard, whose window is a day; after so long they are deleted.
HOURS_KEPT_DAYS = 3

# From a relation `first` with one row a payment: one row for each rule that fired. Beyond the model is what it alone
# would have let pass, or not shown to an analyst; of an exception, what it would have stopped.
_HITS = """
    select
        (fired.hit ->> 0)::bigint as rule_id, (fired.hit ->> 1)::integer as version, fired.state, first.*,
        case
            when rule_versions.lane = 'exception'
                then strictness.of_the_model > strictness.of_the_rule
            else strictness.of_the_rule > strictness.of_the_model or (rule_versions.queue and risk_tier <> 'high')
        end as is_marginal
    from first
    cross join lateral (
        select 'live' as state, jsonb_array_elements(rule_results -> 'fired') as hit
        union all
        select 'shadow', jsonb_array_elements(rule_results -> 'shadow')
    ) as fired
    join rule_versions
        on rule_versions.rule_id = (fired.hit ->> 0)::bigint and rule_versions.version = (fired.hit ->> 1)::integer
    cross join lateral (
        select
            array_position(array['approve', 'challenge', 'decline'], rule_versions.answer) as of_the_rule,
            array_position(array['approve', 'challenge', 'decline'], rule_results ->> 'model') as of_the_model
    ) as strictness
"""
# `offset 0` keeps the search for an earlier prediction a look-up for each payment, as in model_quality/counts.py.
_COUNT = f"""
with rates as materialized (
    select * from jsonb_to_recordset(%(rates)s) as rate (
        currency text, valid_from date, valid_to date, euros double precision
    )
), scored as (
    select
        transaction_id, position, event_time, predicted_at, amount, currency, fraud_probability, risk_tier, decision,
        queue as is_queued, coalesce(held_out, false) as held_out, rule_results,
        (event_time at time zone 'UTC')::date as day
    from predictions
    where position > %(after)s and position <= %(until)s and decision is not null
), first as materialized (
    select
        scored.*,
        -- As in rules/money.py; 0 where the rate is unknown.
        coalesce((
            select floor(floor(amount * 100 + 0.5) / 100 * euros * 100 + 0.5) / 100
            from rates
            where
                rates.currency = scored.currency
                and scored.day >= valid_from
                and (valid_to is null or scored.day < valid_to)
        ), 0) as amount_ref,
        (select count(*) from labels where labels.transaction_id = scored.transaction_id and is_fraud) as frauds
    from scored
    where not exists (
        select from predictions as earlier
        where
            earlier.transaction_id = scored.transaction_id
            and (earlier.position < scored.position or earlier.position is null)
            and earlier.predicted_at > scored.predicted_at - interval '{AGAIN_WITHIN_DAYS} days'
        offset 0
    )
), hits as materialized ({_HITS}), decided as (
    insert into decision_days as known (
        day, decision, queue, held_out, payments, amount, expected_frauds, matured, frauds
    )
    select day, decision, is_queued, held_out, count(*), sum(amount_ref), sum(fraud_probability), 0, sum(frauds)
    from first
    group by 1, 2, 3, 4
    on conflict (day, decision, queue, held_out) do update set
        payments = known.payments + excluded.payments,
        amount = known.amount + excluded.amount,
        expected_frauds = known.expected_frauds + excluded.expected_frauds,
        frauds = known.frauds + excluded.frauds
), by_hour as (
    -- Without what a rule did before it was paused and became live again.
    insert into rule_hours as known (rule_id, version, hour, hits)
    select rule_id, version, date_trunc('hour', event_time, 'UTC'), count(*)
    from hits
    where state = 'live' and predicted_at >= (
        select coalesce(max(at), '-infinity') from rule_events
        where rule_events.rule_id = hits.rule_id and rule_events.version = hits.version and to_state = 'live'
    )
    group by 1, 2, 3
    on conflict (rule_id, version, hour) do update set hits = known.hits + excluded.hits, counted_at = now()
)
insert into rule_days as known (
    day, rule_id, version, state, hits, queue_hits, amount, expected_frauds, matured, frauds,
    marginal_hits, marginal_frauds, last_hit_at
)
select
    day, rule_id, version, state,
    count(*), count(*) filter (where is_queued), sum(amount_ref), sum(fraud_probability), 0, sum(frauds),
    count(*) filter (where is_marginal), coalesce(sum(frauds) filter (where is_marginal), 0), max(predicted_at)
from hits
group by 1, 2, 3, 4
on conflict (day, rule_id, version, state) do update set
    hits = known.hits + excluded.hits,
    queue_hits = known.queue_hits + excluded.queue_hits,
    amount = known.amount + excluded.amount,
    expected_frauds = known.expected_frauds + excluded.expected_frauds,
    frauds = known.frauds + excluded.frauds,
    marginal_hits = known.marginal_hits + excluded.marginal_hits,
    marginal_frauds = known.marginal_frauds + excluded.marginal_frauds,
    last_hit_at = greatest(known.last_hit_at, excluded.last_hit_at)
"""
# All changes that this snapshot has: one that stayed would count again with its payment.
_RELABEL = f"""
with drained as (
    delete from rule_label_changes returning transaction_id, change
), changed as (
    select transaction_id, sum(change) as frauds from drained group by 1 having sum(change) <> 0
), first as materialized (
    select counted.*, changed.frauds, (event_time at time zone 'UTC')::date as day
    from changed
    cross join lateral (
        select *
        from (
            select
                position, event_time, risk_tier, decision, queue as is_queued, coalesce(held_out, false) as held_out,
                rule_results
            from predictions
            where predictions.transaction_id = changed.transaction_id
            offset 0
        ) as scored
        order by position nulls first
        limit 1
    ) as counted
    where counted.position <= (select position from rule_cursor) and counted.decision is not null
), decided as (
    update decision_days as known
    set frauds = known.frauds + moved.frauds
    from (select day, decision, is_queued, held_out, sum(frauds) as frauds from first group by 1, 2, 3, 4) as moved
    where
        known.day = moved.day
        and known.decision = moved.decision
        and known.queue = moved.is_queued
        and known.held_out = moved.held_out
), hits as ({_HITS})
update rule_days as known
set frauds = known.frauds + moved.frauds, marginal_frauds = known.marginal_frauds + moved.marginal_frauds
from (
    select
        day, rule_id, version, state, sum(frauds) as frauds,
        coalesce(sum(frauds) filter (where is_marginal), 0) as marginal_frauds
    from hits
    group by 1, 2, 3, 4
) as moved
where
    known.day = moved.day
    and known.rule_id = moved.rule_id
    and known.version = moved.version
    and known.state = moved.state
"""
_NEXT = """
select count(*), max(position)
from (select position from predictions where position > %s and position <= %s order by position limit %s) as next
"""
# By the newest label, as in the view quality_weeks: the simulated clock runs faster than a real one.
_MATURE = """
update {table} set matured = {counted}
from quality_clock
where day <= (newest_label at time zone 'UTC')::date - %s and matured <> {counted}
"""


def count(connection: Connection) -> bool:
    """Count the next chunk of predictions, and what has become known of those before, in one transaction.

    Returns:
        Whether there may be more.

    Raises:
        psycopg2.Error: Postgres does not answer, or another worker counts at the same time; nothing is counted then.
    """
    try:
        until = stored_until(connection)
    except LockNotAvailable:
        return False
    with connection, connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select position from rule_cursor for update")
        ((after,),) = cursor.fetchall()
        cursor.execute(_RELABEL)
        cursor.execute(_NEXT, (after, until, CHUNK))
        ((rows, last),) = cursor.fetchall()
        if rows:
            cursor.execute(_COUNT, {"after": after, "until": last, "rates": _rates()})
            cursor.execute("update rule_cursor set position = %s", (last,))
    return bool(rows == CHUNK)


def mature(connection: Connection) -> None:
    """Mark the days whose labels have matured by now, and delete the hours that the guard does not need."""
    with connection, connection.cursor() as cursor:
        for table, counted in (("rule_days", "hits"), ("decision_days", "payments")):
            cursor.execute(_MATURE.format(table=table, counted=counted), (MATURED_AFTER_DAYS,))
        _expire(cursor)


def _rates() -> str:
    names = ("currency", "valid_from", "valid_to", "euros")
    return json.dumps([dict(zip(names, period, strict=True)) for period in stored_rates().periods()], default=str)


def _expire(cursor: Cursor) -> None:
    cursor.execute("delete from rule_hours where counted_at < now() - make_interval(days => %s)", (HOURS_KEPT_DAYS,))

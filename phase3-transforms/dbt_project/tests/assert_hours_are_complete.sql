-- No payment of the last days is missing in the hourly metrics, and none is counted twice. Payments that reached Silver
-- after the metrics were built don't count: the test may run at any time, also in the middle of a run of the pipeline.
with

hours as (
    select
        date(metric_hour) as event_date,
        sum(transactions) as transactions
    from {{ ref('mart_hourly_metrics') }}
    group by date(metric_hour)
),

days as (
    select
        event_date,
        count(*) as transactions
    from {{ ref('stg_transactions') }}
    where
        event_date >= date({{ as_of() }}) - interval '7' day
        and loaded_at <= (select max(transactions_through) from {{ ref('mart_hourly_metrics') }})
    group by event_date
),

final as (
    select
        days.event_date,
        days.transactions as in_silver,
        hours.transactions as in_gold
    from days
    left join hours
        on days.event_date = hours.event_date
    where days.transactions is distinct from hours.transactions
)

select * from final

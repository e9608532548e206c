-- Every matured payment of Silver is an example, once. Only what Silver had when the examples were built counts.
with

examples as (
    select
        event_date,
        count(*) as examples
    from {{ ref('mart_training_examples') }}
    group by event_date
),

matured as (
    select
        event_date,
        count(*) as transactions
    from {{ ref('stg_transactions') }}
    where
        event_time <= (select max(matured_through) from {{ ref('mart_training_examples') }})
        and loaded_at <= (select max(transactions_through) from {{ ref('mart_training_examples') }})
    group by event_date
),

final as (
    select
        matured.event_date,
        matured.transactions,
        examples.examples
    from matured
    left join examples
        on matured.event_date = examples.event_date
    where matured.transactions is distinct from examples.examples
)

select * from final

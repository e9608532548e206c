-- Every settled payment of Silver is an example, once, as far as Silver was there when the examples were built.
with

examples as (
    select
        event_date,
        count(*) as examples
    from {{ ref('mart_training_examples') }}
    group by event_date
),

settled as (
    select
        event_date,
        count(*) as transactions
    from {{ ref('stg_transactions') }}
    where
        event_time <= (select max(settled_through) from {{ ref('mart_training_examples') }})
        and loaded_at <= (select max(transactions_through) from {{ ref('mart_training_examples') }})
    group by event_date
),

final as (
    select
        settled.event_date,
        settled.transactions,
        examples.examples
    from settled
    left join examples
        on settled.event_date = examples.event_date
    where settled.transactions is distinct from examples.examples
)

select * from final

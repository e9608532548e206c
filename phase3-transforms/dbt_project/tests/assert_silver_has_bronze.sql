-- By day, no payment of Bronze is missing in Silver, and none in Silver is not in Bronze: of the newest days, and of
-- what Bronze had when Silver was built. A copy may have another day than the first one, which is in Silver.
{%- set since = 'date(' ~ as_of() ~ ") - interval '1' day" %}
with

bronze as (
    select distinct
        transaction_id,
        event_date
    from {{ source('bronze', 'transactions') }}
    where
        event_date >= {{ since }}
        and loaded_at <= (select max(loaded_at) from {{ ref('stg_transactions') }})
),

silver as (
    select
        transaction_id,
        event_date
    from {{ ref('stg_transactions') }}
    where event_date >= {{ since }} - interval '{{ var('duplicate_days') }}' day
),

final as (
    select
        coalesce(silver.event_date, bronze.event_date) as event_date,
        count_if(silver.transaction_id is null) as only_in_bronze,
        count_if(bronze.transaction_id is null) as only_in_silver
    from bronze
    full outer join silver
        on bronze.transaction_id = silver.transaction_id
    where
        silver.transaction_id is null
        or (bronze.transaction_id is null and silver.event_date >= {{ since }})
    group by coalesce(silver.event_date, bronze.event_date)
)

select * from final

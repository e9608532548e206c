-- No payment happened after Bronze got it (give or take five minutes of clock skew).
select
    transaction_id,
    event_time,
    loaded_at
from {{ ref('stg_transactions') }}
where
    event_date >= date({{ as_of() }}) - interval '2' day
    and event_time > loaded_at + interval '5' minute

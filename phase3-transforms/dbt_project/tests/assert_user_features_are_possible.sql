-- What counts in a day also counts in the week, and in the month; and whatever else is true of all payments.
select *
from {{ ref('mart_fraud_features') }}
where
    (last_event_time is null) <> (transactions_30d = 0)
    or last_event_time > as_of
    or {{ impossible_user_features() | join('\n    or ') }}

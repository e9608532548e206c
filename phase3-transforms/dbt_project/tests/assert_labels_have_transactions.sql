-- A label whose payment is not in Silver has no effect; a few labels may arrive before their payments.
{{ config(severity='warn') }}
select labels.*
from {{ ref('stg_labels') }} as labels
left join {{ ref('stg_transactions') }} as transactions
    on labels.transaction_id = transactions.transaction_id and labels.event_date = transactions.event_date
where
    transactions.transaction_id is null
    and labels.event_time <= {{ as_of() }} - interval '3' day

-- What counts in a day also counts in the week, and in the month.
select *
from {{ ref('mart_fraud_features') }}
where
    transactions_1d > transactions_7d
    or transactions_7d > transactions_30d
    or amount_max_1d > amount_max_7d
    or amount_max_7d > amount_max_30d
    or distinct_merchants_30d > transactions_30d

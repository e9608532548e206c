select *
from {{ ref('mart_merchant_risk') }}
where
    merchant_transactions_1d > merchant_transactions_7d
    or merchant_transactions_7d > merchant_transactions_30d

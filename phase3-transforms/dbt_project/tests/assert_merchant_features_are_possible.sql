-- The same of merchants.
select *
from {{ ref('mart_merchant_risk') }}
where {{ impossible_merchant_features() | join('\n    or ') }}

-- Between one in 10,000 and one in 20 of the matured payments are fraud, once there are enough of them for an estimate.
-- Data without labels, or with more fraud than usual, is legal: a warning, since a model trained on it needs a look.
{{ config(severity='warn') }}
select
    count(*) as examples,
    avg(cast(is_fraud as double)) as fraud_rate
from {{ ref('mart_training_examples') }}
having
    count(*) >= 10000
    and avg(cast(is_fraud as double)) not between 0.0001 and 0.05

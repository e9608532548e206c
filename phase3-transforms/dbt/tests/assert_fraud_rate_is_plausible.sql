-- Between one in 10,000 and one in 20 of the settled payments are fraud, once there are enough of them to tell.
select
    count(*) as examples,
    avg(if(is_fraud, 1.0, 0.0)) as fraud_rate
from {{ ref('mart_training_examples') }}
having
    count(*) >= 10000
    and avg(if(is_fraud, 1.0, 0.0)) not between 0.0001 and 0.05

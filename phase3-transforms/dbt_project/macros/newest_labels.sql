{# The newest label of each payment: later labels correct earlier ones. #}
{% macro newest_labels(condition='true') %}
    select
        transaction_id,
        event_date,
        max_by(is_fraud, reported_at) as is_fraud,
        max_by(fraud_type, reported_at) as fraud_type,
        max(reported_at) as reported_at
    from {{ ref('stg_labels') }}
    where {{ condition }}
    group by transaction_id, event_date
{% endmacro %}

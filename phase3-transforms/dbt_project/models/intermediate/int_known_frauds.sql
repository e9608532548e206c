with

labels as (
    select
        *,
        lead(reported_at) over (partition by transaction_id order by reported_at) as revised_at
    from {{ ref('stg_labels') }}
),

final as (
    select
        transaction_id,
        user_id,
        fraud_type,
        event_time,
        event_date,
        reported_at as known_from,
        revised_at as known_until
    from labels
    where is_fraud
)

select * from final

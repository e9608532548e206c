with

transactions as (
    select * from {{ ref('stg_transactions') }}
),

merchants as (
    select * from {{ ref('merchants') }}
),

final as (
    select
        transactions.*,

        ---------- merchant
        coalesce(merchants.category, 'unknown') as merchant_category,
        {{ category_risk('merchants.category_risk') }} as merchant_category_risk,

        ---------- risk flags
        transactions.amount >= {{ var('high_amount') }} as is_high_amount,
        hour(at_timezone(transactions.event_time, 'UTC')) as event_hour,
        hour(at_timezone(transactions.event_time, 'UTC')) < 6 as is_night,
        day_of_week(transactions.event_date) >= 6 as is_weekend
    from transactions
    left join merchants
        on transactions.merchant_id = merchants.merchant_id
)

select * from final

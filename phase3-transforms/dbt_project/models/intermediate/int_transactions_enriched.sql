with

transactions as (
    select * from {{ ref('stg_transactions') }}
),

merchants as (
    select * from {{ ref('merchants') }}
),

category_risks as (
    {{ category_risks() }}
),

final as (
    select
        ---------- the payment
        transactions.transaction_id,
        transactions.user_id,
        transactions.merchant_id,
        transactions.device_id,
        transactions.amount,
        transactions.currency,
        transactions.is_international,
        transactions.device_type,
        transactions.merchant_name,
        transactions.country,
        transactions.city,
        transactions.event_time,
        transactions.event_date,
        {{ arrived_at('transactions') }} as arrived_at,
        transactions.loaded_at,
        transactions.is_late,

        ---------- features that need the payment and its merchant's category only
        {% for name, expression in payment_features().items() %}{{ expression }} as {{ name }},
        {% endfor %}
        ---------- for reports
        transactions.amount >= {{ var('high_amount') }} as is_high_amount
    from transactions
    left join merchants
        on transactions.merchant_id = merchants.merchant_id
    left join category_risks
        on transactions.merchant_category = category_risks.category
)

select * from final

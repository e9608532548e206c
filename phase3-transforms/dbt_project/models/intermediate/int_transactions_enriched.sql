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

        ---------- features that need the payment and its merchant's category only
        {% for name, expression in payment_features().items() %}{{ expression }} as {{ name }},
        {% endfor %}
        ---------- for reports
        transactions.amount >= {{ var('high_amount') }} as is_high_amount
    from transactions
    left join merchants
        on transactions.merchant_id = merchants.merchant_id
)

select * from final

{{ config(materialized='table') }}
{#- Each run replaces the table, as in mart_fraud_features. -#}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_merchant_velocity') }}
),

reference as (
    select * from {{ ref('merchants') }}
),

{# A merchant that was paid once stays, with zeros after 30 days without a payment. #}
known_merchants as (
    select merchant_id from reference
    union distinct
    select merchant_id from {{ ref('stg_transactions') }}
),

{# The newest category that a merchant's payments give; of several in one millisecond, the last by name. #}
given as (
    select
        merchant_id,
        max(row(event_time, merchant_category))[2] as category
    from {{ ref('stg_transactions') }}
    where
        merchant_category is not null
        and event_time <= {{ as_of }}
    group by merchant_id
),

category_risks as (
    {{ category_risks() }}
),

final as (
    select
        known_merchants.merchant_id,
        reference.merchant_name,
        {{ merchant_category('given.category', 'reference') }} as merchant_category,
        {{ merchant_category_risk('given.category', 'reference') }} as merchant_category_risk,
        reference.country,
        {% for name in merchant_features() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        {{ start_of_day('date(' ~ as_of ~ ')') }} as as_of
    from known_merchants
    left join velocity
        on known_merchants.merchant_id = velocity.merchant_id
    left join reference
        on known_merchants.merchant_id = reference.merchant_id
    left join given
        on known_merchants.merchant_id = given.merchant_id
    left join category_risks
        on given.category = category_risks.category
)

select * from final

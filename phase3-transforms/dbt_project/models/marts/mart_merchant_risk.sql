{{ config(materialized='table') }}
{#- Each run replaces the table, as in mart_fraud_features. -#}
{%- set before = load_cached_relation(this) if execute and not flags.FULL_REFRESH -%}
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
    {% if before %}
        select merchant_id from {{ this }}
    {% else %}
        select merchant_id from {{ ref('stg_transactions') }}
    {% endif %}
),

final as (
    select
        coalesce(velocity.merchant_id, known_merchants.merchant_id) as merchant_id,
        reference.merchant_name,
        coalesce(reference.category, 'unknown') as merchant_category,
        {{ category_risk('reference.category_risk') }} as merchant_category_risk,
        reference.country,
        {% for name in merchant_features() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        {{ start_of_day('date(' ~ as_of ~ ')') }} as as_of
    from velocity
    full outer join known_merchants
        on velocity.merchant_id = known_merchants.merchant_id
    left join reference
        on coalesce(velocity.merchant_id, known_merchants.merchant_id) = reference.merchant_id
)

select * from final

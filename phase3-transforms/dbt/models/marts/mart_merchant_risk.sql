{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key='merchant_id',
    on_schema_change='append_new_columns'
) }}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_merchant_velocity') }}
),

reference as (
    select * from {{ ref('merchants') }}
),

merchants as (
    select merchant_id from reference
    union distinct
    select distinct merchant_id
    from {{ ref('stg_transactions') }}
    {% if is_incremental() %}
        where event_date >= date({{ as_of }}) - interval '30' day
        union distinct
        select merchant_id from {{ this }}
    {% endif %}
),

final as (
    select
        merchants.merchant_id,
        reference.merchant_name,
        coalesce(reference.category, 'unknown') as merchant_category,
        {{ category_risk('reference.category_risk') }} as merchant_category_risk,
        reference.country,
        {% for name in merchant_state_numbers() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        with_timezone(cast(date({{ as_of }}) as timestamp(3)), 'UTC') as as_of
    from merchants
    left join reference
        on merchants.merchant_id = reference.merchant_id
    left join velocity
        on merchants.merchant_id = velocity.merchant_id
)

select * from final

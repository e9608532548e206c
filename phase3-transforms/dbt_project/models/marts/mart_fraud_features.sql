{{ config(materialized='table') }}
{#- Each run computes all rows for a new moment, so it replaces the table. -#}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_user_velocity') }}
),

{# A user who paid once stays, with zeros after 30 days without a payment. #}
known_users as (
    select distinct user_id from {{ ref('stg_transactions') }}
),

users_with_frauds as (
    select distinct
        user_id as entity_row_id,
        user_id,
        {{ as_of }} as as_of
    from {{ ref('int_known_frauds') }}
),

frauds as (
    {{ user_frauds('users_with_frauds') }}
),

final as (
    select
        known_users.user_id,

        {% for name in user_payment_features() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        {% for name in user_fraud_features() %}coalesce(frauds.{{ name }}, 0) as {{ name }},
        {% endfor %}
        velocity.last_event_time,
        {{ as_of }} as as_of
    from known_users
    left join velocity
        on known_users.user_id = velocity.user_id
    left join frauds
        on known_users.user_id = frauds.entity_row_id
)

select * from final

{{ config(materialized='table') }}
{#- Each run computes all rows for a new moment, so it replaces the table. The old table lists all users who ever paid,
    so the run need not read all of Silver for them. -#}
{%- set before = load_cached_relation(this) if execute and not flags.FULL_REFRESH -%}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_user_velocity') }}
),

{# A user who paid once stays, with zeros after 30 days without a payment. #}
known_users as (
    {% if before %}
        select user_id from {{ this }}
    {% else %}
        select distinct user_id from {{ ref('stg_transactions') }}
    {% endif %}
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
        coalesce(velocity.user_id, known_users.user_id) as user_id,

        {% for name in user_payment_features() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        {% for name in user_fraud_features() %}coalesce(frauds.{{ name }}, 0) as {{ name }},
        {% endfor %}
        velocity.last_event_time,
        {{ as_of }} as as_of
    from velocity
    full outer join known_users
        on velocity.user_id = known_users.user_id
    left join frauds
        on coalesce(velocity.user_id, known_users.user_id) = frauds.entity_row_id
)

select * from final

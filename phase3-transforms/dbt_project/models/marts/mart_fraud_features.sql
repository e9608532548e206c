{{ config(materialized='table') }}
{#- Every row is true for another moment after a run, so all of them are written anew. What the table holds already is
    who ever paid: that spares reading all of Silver. -#}
{%- set before = load_cached_relation(this) if execute and not flags.FULL_REFRESH -%}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_user_velocity') }}
),

{# Who was active once stays, with zeros when 30 days have passed. #}
known_users as (
    {% if before %}
        select user_id from {{ this }}
    {% else %}
        select distinct user_id from {{ ref('stg_transactions') }}
    {% endif %}
),

users_with_frauds as (
    select distinct
        user_id as anchor_id,
        user_id,
        {{ as_of }} as as_of
    from {{ ref('int_known_frauds') }}
),

frauds_before as (
    {{ confirmed_frauds('users_with_frauds') }}
),

final as (
    select
        coalesce(velocity.user_id, known_users.user_id) as user_id,

        {% for name in user_state_numbers() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        coalesce(frauds_before.confirmed_frauds, 0) as confirmed_frauds,
        velocity.last_event_time,
        {{ as_of }} as as_of
    from velocity
    full outer join known_users
        on velocity.user_id = known_users.user_id
    left join frauds_before
        on coalesce(velocity.user_id, known_users.user_id) = frauds_before.anchor_id
)

select * from final

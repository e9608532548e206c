{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key='user_id',
    on_schema_change='append_new_columns'
) }}
{%- set as_of = as_of() -%}

with

velocity as (
    select * from {{ ref('int_user_velocity') }}
),

{# Who was active once stays, with zeros when 30 days have passed. #}
users as (
    select distinct user_id
    from {{ ref('stg_transactions') }}
    {% if is_incremental() %}
        where event_date >= date({{ as_of }}) - interval '30' day
        union distinct
        select user_id from {{ this }}
    {% endif %}
),

anchors as (
    select
        user_id as anchor_id,
        user_id,
        {{ as_of }} as as_of
    from users
),

frauds_before as (
    {{ confirmed_frauds('anchors') }}
),

final as (
    select
        anchors.user_id,

        {% for name in user_state_numbers() %}coalesce(velocity.{{ name }}, 0) as {{ name }},
        {% endfor %}
        coalesce(frauds_before.confirmed_frauds, 0) as confirmed_frauds,
        velocity.last_event_time,
        anchors.as_of
    from anchors
    left join velocity
        on anchors.user_id = velocity.user_id
    left join frauds_before
        on anchors.anchor_id = frauds_before.anchor_id
)

select * from final

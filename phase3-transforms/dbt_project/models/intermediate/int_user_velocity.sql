{%- set as_of = as_of() -%}
{%- set today = 'date(' ~ as_of ~ ')' -%}
with

anchors as (
    select distinct
        user_id as anchor_id,
        user_id,
        {{ as_of }} as as_of
    from {{ ref('stg_transactions') }}
    where event_date >= {{ today }} - interval '30' day
),

states as (
    {{ user_state('anchors', today ~ " - interval '30' day", today, with_sets=true, of_all=true) }}
),

final as (
    select
        anchor_id as user_id,
        {% for name in user_state_numbers() %}{{ name }},
        {% endfor %}
        last_event_time,
        {{ as_of }} as as_of
    from states
)

select * from final

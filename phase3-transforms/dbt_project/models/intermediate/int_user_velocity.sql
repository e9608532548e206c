{%- set as_of = as_of() -%}
{%- set today = 'date(' ~ as_of ~ ')' -%}
with

entity_rows as (
    select distinct
        user_id as entity_row_id,
        user_id,
        {{ as_of }} as as_of
    from {{ ref('stg_transactions') }}
    where event_date >= {{ today }} - interval '30' day
),

states as (
    {{ user_state('entity_rows', today ~ " - interval '30' day", today, with_sets=true, of_all=true) }}
),

final as (
    select
        entity_row_id as user_id,
        {% for name in user_payment_features() %}{{ name }},
        {% endfor %}
        last_event_time,
        {{ as_of }} as as_of
    from states
)

select * from final

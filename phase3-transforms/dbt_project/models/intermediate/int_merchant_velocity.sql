{%- set today = 'date(' ~ as_of() ~ ')' -%}
with

entity_rows as (
    select distinct
        merchant_id,
        {{ today }} as as_of_date
    from {{ ref('stg_transactions') }}
    where event_date >= {{ today }} - interval '30' day
),

final as (
    {{ merchant_state('entity_rows', today ~ " - interval '30' day", today) }}
)

select * from final

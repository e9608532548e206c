{%- set today = 'date(' ~ as_of() ~ ')' -%}
with

anchors as (
    select distinct
        merchant_id,
        {{ today }} as as_of_date
    from {{ ref('stg_transactions') }}
    where event_date >= {{ today }} - interval '30' day
),

final as (
    {{ merchant_state('anchors', today ~ " - interval '30' day", today) }}
)

select * from final

{{ config(materialized='view') }}
with

final as (
    {{ category_risks() }}
)

select * from final

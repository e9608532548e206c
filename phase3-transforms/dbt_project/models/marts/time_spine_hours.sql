{{ config(materialized='view') }}
{#- Every hour that an event may be of. sequence() makes at most 10,000 values, so years are made first. -#}
with

years as (
    select all_years.first_hour
    from unnest(
        sequence(timestamp '2000-01-01 00:00:00.000', timestamp '2036-01-01 00:00:00.000', interval '1' year)
    ) as all_years (first_hour)
),

final as (
    select hours.date_hour
    from years
    cross join unnest(
        sequence(years.first_hour, years.first_hour + interval '1' year - interval '1' hour, interval '1' hour)
    ) as hours (date_hour)
)

select * from final

{{ config(materialized='view') }}
{#- sequence() makes at most 10,000 values: 27 years of days. -#}
select cast(days.date_day as timestamp(3)) + hours.hour_of_day * interval '1' hour as date_hour
from unnest(sequence(date '2010-01-01', date '2037-01-01', interval '1' day)) as days (date_day)
cross join unnest(sequence(0, 23)) as hours (hour_of_day)

{# How a payment compares with what its user did before: three columns. A user without history is nobody unusual:
   ratio 1, score 0, and as long since the last payment as the longest window. #}
{% macro against_habits(amount, event_time, states) -%}
    case when {{ states }}.amount_mean_30d > 0 then {{ amount }} / {{ states }}.amount_mean_30d else 1 end
        as amount_to_mean_30d,
        case
            when {{ states }}.amount_stddev_30d > 0
                then ({{ amount }} - {{ states }}.amount_mean_30d) / {{ states }}.amount_stddev_30d
            else 0
        end as amount_zscore_30d,
        coalesce(
            cast(date_diff('millisecond', {{ states }}.last_event_time, {{ event_time }}) as double) / 1000, 30 * 86400
        ) as seconds_since_last,
        {{ share(states ~ '.transactions_1d', states ~ '.transactions_30d') }} as transactions_1d_to_30d,
        {{ share(states ~ '.amount_sum_1d', states ~ '.amount_sum_30d') }} as amount_1d_to_30d
{%- endmacro %}

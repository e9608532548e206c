{# An aggregate over the last `length` days before a moment: of the events in [as_of - length, as_of).

   `moment` is when an event happened, `as_of` the moment or the day that the aggregate is computed for. The join must
   leave out the events from as_of on. `unit` may be another unit than day. #}
{% macro rolling_window(aggregate, moment, as_of, length, condition=none, unit='day') -%}
    {{ aggregate }} filter (
        where {{ moment }} >= {{ as_of }} - interval '{{ length }}' {{ unit }}
        {%- if condition %} and {{ condition }}{% endif %}
    )
{%- endmacro %}

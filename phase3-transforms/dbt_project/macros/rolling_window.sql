{# An aggregate over the last `days` days before a moment: of the events in [as_of - days, as_of).

   `moment` is when an event happened, `as_of` the moment or the day that the aggregate is computed for. The join must
   leave out the events from as_of on. #}
{% macro rolling_window(aggregate, moment, as_of, days, condition=none) -%}
    {{ aggregate }} filter (
        where {{ moment }} >= {{ as_of }} - interval '{{ days }}' day
        {%- if condition %} and {{ condition }}{% endif %}
    )
{%- endmacro %}

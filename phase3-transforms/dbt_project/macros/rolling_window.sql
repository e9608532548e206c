{# An aggregate over the last `days` days before a moment: what happened in [as_of - days, as_of).

   `moment` is when it happened, `as_of` the moment or the day that it is computed for; that nothing from as_of on is
   among the rows is for the join to see to. #}
{% macro rolling_window(aggregate, moment, as_of, days, condition=none) -%}
    {{ aggregate }} filter (
        where {{ moment }} >= {{ as_of }} - interval '{{ days }}' day
        {%- if condition %} and {{ condition }}{% endif %}
    )
{%- endmacro %}

{# No two rows with the same values, among those of the last `days` days of the data clock and later: a run adds few
   rows to older days. #}
{% test unique_recently(model, columns, days=35) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where event_date >= date({{ as_of() }}) - interval '{{ days }}' day
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}

{# Every value lies between the two bounds, both included. #}
{% test between(model, column_name, at_least=none, at_most=none) %}
    select {{ column_name }}
    from {{ model }}
    where
        {{ column_name }} is null
        {% if at_least is not none %}or {{ column_name }} < {{ at_least }}{% endif %}
        {% if at_most is not none %}or {{ column_name }} > {{ at_most }}{% endif %}
{% endtest %}

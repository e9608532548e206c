{# When a payment reached the platform: the time at which Kafka received it, by the broker's clock. Rows that an earlier
   release wrote into Silver have only the time at which Bronze got them, some seconds later. #}
{% macro arrived_at(payment) -%}
    coalesce({{ payment }}.kafka_timestamp, {{ payment }}.loaded_at)
{%- endmacro %}

{# Whether an example has features that no scorer could have had: a payment in its user's window arrived after it.
   `payments` is the row of int_transactions_enriched, `states` that of user_state.

   A payment that was late itself is no such example: it was scored late, or it is part of a replayed history, of which
   all payments arrive long after they happened. #}
{% macro has_late_history(payments, states) -%}
    coalesce({{ states }}.newest_arrival > {{ payments }}.arrived_at and not {{ payments }}.is_late, false)
{%- endmacro %}

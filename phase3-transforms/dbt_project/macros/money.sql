{# Amounts as rules see them, in doubles: phase4-ml/rules/money.py computes the same, and a test compares the two. #}

{# To a whole number of cents, half a cent upwards, then divided by 100. #}
{% macro to_cents(amount) -%}
    (floor({{ amount }} * 1e2 + 5e-1) / 1e2)
{%- endmacro %}

{# Whether it is a multiple of 10. #}
{% macro is_round_amount(amount) -%}
    (mod(floor({{ amount }} * 1e2 + 5e-1), 1e3) = 0e0)
{%- endmacro %}

{# In euros. `amount` is one of `to_cents`; `rate` is that of the seed exchange_rates, NULL if it is unknown. #}
{% macro amount_ref(amount, rate) -%}
    {{ to_cents(amount ~ ' * ' ~ rate) }}
{%- endmacro %}

{# The rates with the day on which the next one begins, NULL for the newest: join on
   currency = … and event_date >= valid_from and (valid_to is null or event_date < valid_to), the day being that in UTC. #}
{% macro exchange_rate_periods() -%}
    select
        currency,
        rate,
        valid_from,
        lead(valid_from) over (partition by currency order by valid_from) as valid_to
    from {{ ref('exchange_rates') }}
{%- endmacro %}

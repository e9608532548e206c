{# What is known of users at given moments. The same code computes it for the present (mart_fraud_features) and for
   every moment of the past (mart_training_examples).

   To add a feature of users, add it to user_payment_features or user_fraud_features below. #}

{# Features from the user's payments: name -> aggregate over `events`, which are the payments of the 30 days before
   `entity_rows.as_of`. #}
{% macro user_payment_features(with_sets=true) -%}
    {%- set features = {} -%}
    {%- for days in var('windows') -%}
        {%- set sum = user_window('sum(events.amount)', days) -%}
        {%- set mean = user_window('avg(events.amount_double)', days) -%}
        {%- set stddev = user_window('stddev_pop(events.amount_double)', days) -%}
        {%- set max = user_window('max(events.amount_double)', days) -%}
        {%- do features.update({
            'transactions_' ~ days ~ 'd': user_window('count(*)', days),
            'amount_sum_' ~ days ~ 'd': 'coalesce(cast(' ~ sum ~ ' as double), 0)',
            'amount_mean_' ~ days ~ 'd': 'coalesce(' ~ mean ~ ', 0)',
            'amount_stddev_' ~ days ~ 'd': 'coalesce(' ~ stddev ~ ', 0)',
            'amount_max_' ~ days ~ 'd': 'coalesce(' ~ max ~ ', 0)',
        }) -%}
    {%- endfor -%}
    {%- set payments = user_window('count(*)', 30) -%}
    {%- set international = user_window('count(*)', 30, 'events.is_international') -%}
    {%- set high = user_window('count(*)', 30, 'events.amount >= ' ~ var('high_amount')) -%}
    {%- do features.update({
        'distinct_merchants_30d': distinct_of_user('merchant_id', with_sets),
        'distinct_countries_30d': distinct_of_user('country', with_sets),
        'distinct_devices_30d': distinct_of_user('device_id', with_sets),
        'international_ratio_30d': share(international, payments),
        'high_amount_ratio_30d': share(high, payments),
    }) -%}
    {{ return(features) }}
{%- endmacro %}

{# Features from the user's known frauds, of any age: name -> aggregate over `frauds`. #}
{% macro user_fraud_features() -%}
    {{ return({'confirmed_frauds': 'count(*)'}) }}
{%- endmacro %}

{# One row per entity row, with user_payment_features and last_event_time.

   `entity_rows` names a CTE or relation with entity_row_id, user_id and as_of. Only payments before as_of count:
   payments of the very same millisecond don't see each other. Payments are read from the date `since` (30 days before
   the first as_of, or earlier) to the date `until`.

   `with_sets`: count distinct values with a set for each entity row, which is faster for few entity rows. Without sets,
   a payment counts as its window's first at a merchant if the user's previous payment there is older than the window.
   `of_all`: for the present. The entity rows are all users with payments; as_of is the newest payment, which counts. #}
{% macro user_state(entity_rows, since, until, with_sets, of_all=false) %}
    with events as (
        select
            user_id,
            transaction_id,
            event_time,
            {% for column in ['merchant_id', 'country', 'device_id'] %}
                {{ column }},
                {% if not with_sets %}
                    lag(event_time) over (
                        partition by user_id, {{ column }} order by event_time, transaction_id
                    ) as last_same_{{ column }},
                {% endif %}
            {% endfor %}
            is_international,
            amount,
            cast(amount as double) as amount_double
        from {{ ref('stg_transactions') }}
        where
            event_date between {{ since }} and {{ until }}
            {% if not of_all %}
                and user_id in (select entity_rows.user_id from {{ entity_rows }} as entity_rows)
            {% endif %}
    )

    select
        entity_rows.entity_row_id,
        {% for name, aggregate in user_payment_features(with_sets).items() %}
            {{ aggregate }} as {{ name }},
        {% endfor %}
        {{ user_window('max(events.event_time)', 30) }} as last_event_time
    from {{ entity_rows }} as entity_rows
    left join events
        on
            entity_rows.user_id = events.user_id
            and events.event_time >= entity_rows.as_of - interval '30' day
            and events.event_time {{ '<=' if of_all else '<' }} entity_rows.as_of
    group by entity_rows.entity_row_id
{% endmacro %}

{# One row per entity row whose user has a known fraud, with user_fraud_features. #}
{% macro user_frauds(entity_rows) %}
    select
        entity_rows.entity_row_id,
        {% for name, aggregate in user_fraud_features().items() %}
            {{ aggregate }} as {{ name }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ entity_rows }} as entity_rows
    inner join {{ ref('int_known_frauds') }} as frauds
        on
            entity_rows.user_id = frauds.user_id
            and entity_rows.as_of >= frauds.known_from
            and coalesce(entity_rows.as_of < frauds.known_until, true)
    group by entity_rows.entity_row_id
{% endmacro %}

{% macro user_window(aggregate, days, condition=none) -%}
    {{ rolling_window(aggregate, 'events.event_time', 'entity_rows.as_of', days, condition) }}
{%- endmacro %}

{% macro distinct_of_user(column, with_sets) -%}
    {%- if with_sets -%}
        {#- The join has only the longest window. -#}
        count(distinct events.{{ column }})
    {%- else -%}
        {{ user_window(
            'count(*)', 30,
            'coalesce(events.last_same_' ~ column ~ " < entity_rows.as_of - interval '30' day, true)"
        ) }}
    {%- endif -%}
{%- endmacro %}

{% macro share(part, whole) -%}
    coalesce(cast({{ part }} as double) / nullif({{ whole }}, 0), 0)
{%- endmacro %}

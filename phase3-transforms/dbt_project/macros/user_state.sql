{# What is known of users at given moments. The same code computes it for the present (mart_fraud_features) and for
   every moment of the past (mart_training_examples).

   To add a feature of users, add it to user_payment_features or user_fraud_features below; one that compares a payment
   with the user's earlier ones, to novelty_features. #}

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
    {%- for window in var('short_windows') -%}
        {%- set minutes = var('short_windows')[window] -%}
        {%- set sum = user_window('sum(events.amount)', minutes, unit='minute') -%}
        {%- do features.update({
            'transactions_' ~ window: user_window('count(*)', minutes, unit='minute'),
            'amount_sum_' ~ window: 'coalesce(cast(' ~ sum ~ ' as double), 0)',
        }) -%}
    {%- endfor -%}
    {%- set small = 'events.amount <= ' ~ var('small_amount') -%}
    {%- set payments = user_window('count(*)', 30) -%}
    {%- set international = user_window('count(*)', 30, 'events.is_international') -%}
    {%- set high = user_window('count(*)', 30, 'events.amount >= ' ~ var('high_amount')) -%}
    {%- do features.update({
        'small_transactions_1h': user_window('count(*)', 1, small, 'hour'),
        'small_transactions_1d': user_window('count(*)', 1, small),
        'new_merchants_1d': new_merchants(1, with_sets),
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
    {%- set features = {'confirmed_frauds': 'count(*)'} -%}
    {%- for days in var('windows') -%}
        {%- do features.update({
            'frauds_reported_' ~ days ~ 'd':
                rolling_window('count(*)', 'frauds.known_from', 'entity_rows.as_of', days)
        }) -%}
    {%- endfor -%}
    {{ return(features) }}
{%- endmacro %}

{# What is new about a payment for its user: name -> aggregate over `events` and the payment, which is the entity row.
   Without payments in the 30 days before it, nothing is new, as in features.py. #}
{% macro novelty_features() -%}
    {%- set payments = user_window('count(*)', 30) -%}
    {%- set same, since = {}, {} -%}
    {%- for column in ['merchant_id', 'device_id', 'country'] -%}
        {%- set condition = 'events.' ~ column ~ ' = entity_rows.' ~ column -%}
        {%- set age = "min(date_diff('millisecond', events.event_time, entity_rows.as_of))" -%}
        {%- do same.update({column: user_window('count(*)', 30, condition)}) -%}
        {%- do since.update({column:
            'case when ' ~ payments ~ ' = 0 then 86400 else coalesce(cast('
            ~ user_window(age, 30, condition) ~ ' as double) / 1000, 30 * 86400) end'
        }) -%}
    {%- endfor -%}
    {%- set hours = "hour(at_timezone(events.event_time, 'UTC')) - hour(at_timezone(entity_rows.as_of, 'UTC'))" -%}
    {#- Within two hours, midnight or not: from -2 to 2 modulo 24. -#}
    {%- set near = 'mod(' ~ hours ~ ' + 26, 24) <= 4' -%}
    {{ return({
        'is_new_merchant_30d': is_new(payments, same.merchant_id),
        'is_new_device_30d': is_new(payments, same.device_id),
        'is_new_country_30d': is_new(payments, same.country),
        'merchant_share_30d': share(same.merchant_id, payments, 1),
        'device_share_30d': share(same.device_id, payments, 1),
        'seconds_since_merchant': since.merchant_id,
        'seconds_since_device': since.device_id,
        'hour_share_30d': share(user_window('count(*)', 30, near), payments, 1),
    }) }}
{%- endmacro %}

{% macro is_new(payments, same) -%}
    case when {{ payments }} > 0 and {{ same }} = 0 then 1 else 0 end
{%- endmacro %}

{# One row per entity row, with user_payment_features and last_event_time; `of_payments` adds novelty_features.

   `entity_rows` names a CTE or relation with entity_row_id, user_id and as_of. Only payments before as_of count:
   payments of the very same millisecond don't see each other. Payments are read from the date `since` (30 days before
   the first as_of, or earlier) to the date `until`.

   `with_sets`: count distinct values with a set for each entity row, which is faster for few entity rows. Without sets,
   a payment counts as its window's first at a merchant if the user's previous payment there is older than the window.
   `of_all`: for the present. The entity rows are all users with payments; as_of is the newest payment, which counts.
   `of_payments`: each entity row is a payment, and has merchant_id, country and device_id as well. Of these, one that is
   not given must be an empty text: it is a value of its own. Adds newest_arrival, too: when the last of the payments
   that count arrived. #}
{% macro user_state(entity_rows, since, until, with_sets, of_all=false, of_payments=false) %}
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
            {% if of_payments %}
                arrived_at,
            {% endif %}
            is_international,
            amount,
            cast(amount as double) as amount_double
        from (
            select
                user_id,
                transaction_id,
                event_time,
                merchant_id,
                coalesce(country, '') as country,
                coalesce(device_id, '') as device_id,
                {% if of_payments %}
                    {{ arrived_at('stg_transactions') }} as arrived_at,
                {% endif %}
                is_international,
                amount
            from {{ ref('stg_transactions') }} as stg_transactions
            where
                event_date between {{ since }} and {{ until }}
                {% if not of_all %}
                    and user_id in (select entity_rows.user_id from {{ entity_rows }} as entity_rows)
                {% endif %}
        )
    )

    select
        entity_rows.entity_row_id,
        {% for name, aggregate in user_payment_features(with_sets).items() %}
            {{ aggregate }} as {{ name }},
        {% endfor %}
        {% if of_payments %}
            {% for name, aggregate in novelty_features().items() %}
                {{ aggregate }} as {{ name }},
            {% endfor %}
            {{ user_window('max(events.arrived_at)', 30) }} as newest_arrival,
        {% endif %}
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

{% macro user_window(aggregate, length, condition=none, unit='day') -%}
    {{ rolling_window(aggregate, 'events.event_time', 'entity_rows.as_of', length, condition, unit) }}
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

{# How many merchants of the last `days` days were not paid earlier in the window of 30 days. #}
{% macro new_merchants(days, with_sets) -%}
    {%- set recent = "events.event_time >= entity_rows.as_of - interval '" ~ days ~ "' day" -%}
    {%- if with_sets -%}
        count(distinct events.merchant_id) - count(distinct events.merchant_id) filter (where not ({{ recent }}))
    {%- else -%}
        {{ user_window(
            'count(*)', 30,
            recent ~ " and coalesce(events.last_same_merchant_id < entity_rows.as_of - interval '30' day, true)"
        ) }}
    {%- endif -%}
{%- endmacro %}

{% macro share(part, whole, of_nothing=0) -%}
    coalesce(cast({{ part }} as double) / nullif({{ whole }}, 0), {{ of_nothing }})
{%- endmacro %}

{# What is known of users at given moments, computed by the same code for the present (mart_fraud_features) and for every
   moment of the past (mart_training_examples).

   `anchors` names a CTE or relation with anchor_id, user_id and as_of. Only events before as_of count: payments of the very
   same millisecond don't know of each other. Events are read from the date `since` (30 days before the first anchor, or
   earlier) to the date `until`.

   Distinct values of many moments are counted without a set for each: an event is its window's first with a merchant when
   the one before with the same merchant lies before the window. For few moments, sets are faster (`with_sets`).
   `of_all`: the present: the anchors are of all users that have events, and as_of is the newest event, which counts. #}
{% macro user_state(anchors, since, until, with_sets, of_all=false) %}
    with events as (
        select
            user_id,
            transaction_id,
            event_time,
            {% for thing in ['merchant_id', 'country', 'device_id'] %}
                {{ thing }},
                {% if not with_sets %}
                    lag(event_time) over (
                        partition by user_id, {{ thing }} order by event_time, transaction_id
                    ) as last_same_{{ thing }},
                {% endif %}
            {% endfor %}
            is_international,
            amount,
            cast(amount as double) as amount_double
        from {{ ref('stg_transactions') }}
        where
            event_date between {{ since }} and {{ until }}
            {% if not of_all %}and user_id in (select anchors.user_id from {{ anchors }} as anchors){% endif %}
    )

    select
        anchors.anchor_id,
        {% for days in var('windows') %}
            {{ user_window('count(*)', days) }} as transactions_{{ days }}d,
            coalesce(cast({{ user_window('sum(events.amount)', days) }} as double), 0) as amount_sum_{{ days }}d,
            coalesce({{ user_window('avg(events.amount_double)', days) }}, 0) as amount_mean_{{ days }}d,
            coalesce({{ user_window('stddev_pop(events.amount_double)', days) }}, 0) as amount_stddev_{{ days }}d,
            coalesce({{ user_window('max(events.amount_double)', days) }}, 0) as amount_max_{{ days }}d,
        {% endfor %}
        {% for name, thing in [('merchants', 'merchant_id'), ('countries', 'country'), ('devices', 'device_id')] %}
            {% if with_sets %}
                {# The join holds nothing but the longest window. #}
                count(distinct events.{{ thing }})
            {% else %}
                {{ user_window(
                    'count(*)', 30,
                    'coalesce(events.last_same_' ~ thing ~ " < anchors.as_of - interval '30' day, true)"
                ) }}
            {% endif %}
            as distinct_{{ name }}_30d,
        {% endfor %}
        {{ share(user_window('count(*)', 30, 'events.is_international'), user_window('count(*)', 30)) }}
            as international_ratio_30d,
        {{ share(
            user_window('count(*)', 30, 'events.amount >= ' ~ var('high_amount')), user_window('count(*)', 30)
        ) }} as high_amount_ratio_30d,
        {{ user_window('max(events.event_time)', 30) }} as last_event_time
    from {{ anchors }} as anchors
    left join events
        on
            anchors.user_id = events.user_id
            and events.event_time >= anchors.as_of - interval '30' day
            and events.event_time {{ '<=' if of_all else '<' }} anchors.as_of
    group by anchors.anchor_id
{% endmacro %}

{% macro user_window(aggregate, days, condition=none) -%}
    {{ rolling_window(aggregate, 'events.event_time', 'anchors.as_of', days, condition) }}
{%- endmacro %}

{% macro share(part, whole) -%}
    coalesce(cast({{ part }} as double) / nullif({{ whole }}, 0), 0)
{%- endmacro %}

{# The numbers of user_state, all 0 for a user of whom nothing is known. #}
{% macro user_state_numbers() -%}
    {%- set names = [] -%}
    {%- for days in var('windows') -%}
        {%- for name in ['transactions', 'amount_sum', 'amount_mean', 'amount_stddev', 'amount_max'] -%}
            {%- do names.append(name ~ '_' ~ days ~ 'd') -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for name in ['distinct_merchants', 'distinct_countries', 'distinct_devices', 'international_ratio', 'high_amount_ratio'] -%}
        {%- do names.append(name ~ '_30d') -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}

{# Frauds of a user that were known at given moments, however long ago they happened: one row per anchor that has any. #}
{% macro confirmed_frauds(anchors) %}
    select
        anchors.anchor_id,
        count(*) as confirmed_frauds
    from {{ anchors }} as anchors
    inner join {{ ref('int_known_frauds') }} as frauds
        on
            anchors.user_id = frauds.user_id
            and anchors.as_of >= frauds.known_from
            and coalesce(anchors.as_of < frauds.known_until, true)
    group by anchors.anchor_id
{% endmacro %}

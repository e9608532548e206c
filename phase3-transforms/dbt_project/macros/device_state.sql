{# What is known of devices at the start (00:00 UTC) of given days, and of their users since then. A payment without a
   device has none of it, so that senders who name no device are not one device that all users share.

   To add a feature of devices, add it to device_features below. #}

{# name -> expression over `device_states` (a row of device_state) and `device_days` (one of device_users_today). #}
{% macro device_features() -%}
    {%- set features = {
        'device_users_30d': counted_users('device_states.users_30d'),
        'device_users_today': counted_users('device_days.users_today'),
    } -%}
    {%- for days in var('windows') -%}
        {%- do features.update({
            'device_frauds_reported_' ~ days ~ 'd': 'coalesce(device_states.reported_' ~ days ~ 'd, 0)'
        }) -%}
    {%- endfor -%}
    {{ return(features) }}
{%- endmacro %}

{# The online store keeps no more users than these of a device and a day. #}
{% macro counted_users(users) -%}
    coalesce(least({{ users }}, {{ var('device_users_counted') }}), 0)
{%- endmacro %}

{# One row per entity row: the users of the 30 days before it, and the changes of known frauds.

   `entity_rows` names a CTE or relation with device_id and as_of_date. Payments are read from the date `since` (30 days
   before the first as_of_date, or earlier) to the date `until`. #}
{% macro device_state(entity_rows, since, until) %}
    with

    users as (
        select distinct
            device_id,
            event_date,
            user_id
        from {{ ref('stg_transactions') }}
        where
            event_date between {{ since }} and {{ until }}
            and device_id in (select entity_rows.device_id from {{ entity_rows }} as entity_rows)
    ),

    activity as (
        select
            entity_rows.device_id,
            entity_rows.as_of_date,
            count(distinct users.user_id) as users_30d
        from {{ entity_rows }} as entity_rows
        left join users
            on
                entity_rows.device_id = users.device_id
                and entity_rows.as_of_date > users.event_date
                and users.event_date >= entity_rows.as_of_date - interval '30' day
        group by entity_rows.device_id, entity_rows.as_of_date
    ),

    frauds as (
        {{ known_frauds_with('device_id', since, until) }}
    ),

    known as (
        {{ known_frauds_by_window(entity_rows, 'device_id') }}
    )

    select
        activity.device_id,
        activity.as_of_date,
        activity.users_30d,
        {% for days in var('windows') %}
            known.reported_{{ days }}d{{ ',' if not loop.last }}
        {% endfor %}
    from activity
    left join known
        on activity.device_id = known.device_id and activity.as_of_date = known.as_of_date
{% endmacro %}

{# One row per payment with a device: how many users paid with it since 00:00 UTC, before the payment. #}
{% macro device_users_today(since, until) %}
    select
        transaction_id,
        event_date,
        {# Up to the payment, without those of its own millisecond. #}
        count_if(is_first_of_user) over (partition by device_id, event_date order by event_time)
        - count_if(is_first_of_user) over (partition by device_id, event_date, event_time) as users_today
    from (
        select
            transaction_id,
            event_date,
            event_time,
            device_id,
            row_number() over (
                partition by device_id, event_date, user_id order by event_time, transaction_id
            ) = 1 as is_first_of_user
        from {{ ref('stg_transactions') }}
        where
            event_date between {{ since }} and {{ until }}
            and device_id <> ''
    )
{% endmacro %}

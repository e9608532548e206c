{#- The hook drops the table of an earlier release, which had another name. -#}
{{ config(
    materialized='table',
    pre_hook="drop table if exists {{ this.database }}.{{ this.schema }}.int_training_anchors"
) }}
{%- set examples = examples_so_far() -%}
{%- set everything = not examples -%}
{%- set queries = {
    'as_of': data_clock(),
    'transactions': newest('loaded_at', ref('stg_transactions')),
    'labels': newest('loaded_at', ref('stg_labels'))
} -%}
{%- if not everything -%}
    {%- do queries.update({
        'matured_before': newest('matured_through', examples),
        'transactions_before': newest('transactions_through', examples),
        'labels_before': newest('labels_through', examples)
    }) -%}
{%- endif -%}
{%- set known = moments(queries) -%}
{%- set matured = known.as_of ~ " - interval '" ~ var('label_maturity_days') ~ "' day" -%}
{#- What has matured stays so: while there are only one or two users, a new one can set the data clock back. -#}
{%- set matured = matured if everything else 'greatest(' ~ matured ~ ', ' ~ known.matured_before ~ ')' -%}

with

transactions as (
    select
        transaction_id,
        user_id,
        merchant_id,
        country,
        device_id,
        event_time,
        event_date,
        loaded_at
    from {{ ref('stg_transactions') }}
    where event_time <= {{ matured }}
),

{% if everything %}
    changed as (
        select
            transaction_id,
            event_date
        from transactions
    ),
{% else %}
    labels as (
        select * from {{ ref('stg_labels') }}
    ),

    newly_matured as (
        select
            transaction_id,
            event_date
        from transactions
        where event_time > {{ known.matured_before }}
    ),

    arrived as (
        select * from transactions
        where loaded_at > {{ known.transactions_before }}
    ),

    reported as (
        select * from labels
        where loaded_at > {{ known.labels_before }}
    ),

    {# A payment that came late is history for the payments of its user and of its merchant in the 30 days after it.
       Grouped by month, one of another year does not change all examples of the years between. #}
    late_for_users as (
        select
            user_id,
            min(event_time) as first_time,
            max(event_time) as last_time
        from arrived
        group by user_id, date_trunc('month', event_date)
    ),

    late_for_merchants as (
        select
            merchant_id,
            min(event_date) as first_date,
            max(event_date) as last_date
        from arrived
        group by merchant_id, date_trunc('month', event_date)
    ),

    {# Also for its device, on its own day, too. #}
    late_for_devices as (
        select
            device_id,
            min(event_date) as first_date,
            max(event_date) as last_date
        from arrived
        where device_id <> ''
        group by device_id, date_trunc('month', event_date)
    ),

    {# So is a label that came late, from its report on: for its user for ever, for its merchant and its device while
       the labelled payment is in the window. #}
    reported_for_users as (
        select
            user_id,
            min(reported_at) as first_time
        from reported
        where reported_at <= {{ matured }}
        group by user_id
    ),

    reported_for_merchants as (
        select
            transactions.merchant_id,
            min(date(reported.reported_at)) as first_date,
            max(reported.event_date) as last_date
        from reported
        inner join transactions
            on reported.transaction_id = transactions.transaction_id and reported.event_date = transactions.event_date
        where reported.reported_at <= {{ matured }}
        group by transactions.merchant_id, date_trunc('month', reported.event_date)
    ),

    reported_for_devices as (
        select
            transactions.device_id,
            min(date(reported.reported_at)) as first_date,
            max(reported.event_date) as last_date
        from reported
        inner join transactions
            on reported.transaction_id = transactions.transaction_id and reported.event_date = transactions.event_date
        where
            reported.reported_at <= {{ matured }}
            and transactions.device_id <> ''
        group by transactions.device_id, date_trunc('month', reported.event_date)
    ),

    changed as (
        select
            transaction_id,
            event_date
        from newly_matured
        union distinct
        select
            transaction_id,
            event_date
        from arrived
        union distinct
        select
            transaction_id,
            event_date
        from reported
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join late_for_users as late
            on
                transactions.user_id = late.user_id
                and transactions.event_time >= late.first_time
                and transactions.event_time <= late.last_time + interval '30' day
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join late_for_merchants as late
            on
                transactions.merchant_id = late.merchant_id
                and transactions.event_date > late.first_date
                and transactions.event_date <= late.last_date + interval '30' day
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join reported_for_users as late
            on
                transactions.user_id = late.user_id
                and transactions.event_time >= late.first_time
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join reported_for_merchants as late
            on
                transactions.merchant_id = late.merchant_id
                and transactions.event_date > late.first_date
                and transactions.event_date <= late.last_date + interval '30' day
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join late_for_devices as late
            on
                transactions.device_id = late.device_id
                and transactions.event_date >= late.first_date
                and transactions.event_date <= late.last_date + interval '30' day
        union distinct
        select
            transactions.transaction_id,
            transactions.event_date
        from transactions
        inner join reported_for_devices as late
            on
                transactions.device_id = late.device_id
                and transactions.event_date > late.first_date
                and transactions.event_date <= late.last_date + interval '30' day
    ),
{% endif %}

chosen as (
    select
        transactions.*,
        date_diff('day', lag(transactions.event_time) over (order by transactions.event_time), transactions.event_time)
        > {{ var('training_gap_days') }} as follows_gap
    from transactions
    inner join changed
        on transactions.transaction_id = changed.transaction_id and transactions.event_date = changed.event_date
),

entity_rows as (
    select
        *,
        (row_number() over (order by event_time) - 1) / {{ var('training_slice') }}
        + count_if(follows_gap) over (order by event_time) as slice
    from chosen
),

final as (
    select
        transaction_id,
        user_id,
        merchant_id,
        country,
        device_id,
        event_time,
        event_date,
        slice,

        {# Up to where the examples include Silver once this row is one of them; only the last slice says so. #}
        {{ once_complete(matured, known.matured_before) }} as matured_through,
        {{ once_complete(known.transactions, known.transactions_before) }} as transactions_through,
        {{ once_complete(known.labels, known.labels_before) }} as labels_through
    from entity_rows
)

select * from final

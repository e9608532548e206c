{# The training examples of one slice of int_training_entity_rows: one row per payment, with what was known just before
   it. mart_training_examples builds the first slice by this macro, and merges the others (training_slices.sql). #}
{% macro training_examples(slice) %}
{%- set bounds = slice_bounds(slice) -%}
{%- set first_date, last_date = "date '" ~ bounds.first_date ~ "'", "date '" ~ bounds.last_date ~ "'" -%}
{#- No window is longer than 30 days. -#}
{%- set history_start = first_date ~ " - interval '31' day" -%}
{%- set in_slice = 'event_date between ' ~ first_date ~ ' and ' ~ last_date -%}
{%- set are_few = execute and bounds.entity_rows < var('few_entity_rows') -%}
with

entity_rows as (
    select * from {{ ref('int_training_entity_rows') }}
    where slice = {{ slice }}
),

payments as (
    select * from {{ ref('int_transactions_enriched') }}
    where {{ in_slice }}
),

{# The user's state is as of the payment itself ... #}
user_entity_rows as (
    select
        transaction_id as entity_row_id,
        user_id,
        event_time as as_of,
        merchant_id,
        coalesce(country, '') as country,
        coalesce(device_id, '') as device_id
    from entity_rows
),

user_states as (
    {{ user_state('user_entity_rows', history_start, last_date, with_sets=are_few, of_payments=true) }}
),

user_frauds as (
    {{ user_frauds('user_entity_rows') }}
),

{# ... and the merchant's as of the start of the payment's day. #}
merchant_entity_rows as (
    select distinct
        merchant_id,
        event_date as as_of_date
    from entity_rows
),

merchant_states as (
    {{ merchant_state('merchant_entity_rows', history_start, last_date) }}
),

{# The device's, too. #}
device_entity_rows as (
    select distinct
        device_id,
        event_date as as_of_date
    from entity_rows
    where device_id <> ''
),

device_states as (
    {{ device_state('device_entity_rows', history_start, last_date) }}
),

device_days as (
    {{ device_users_today(first_date, last_date) }}
),

{# The label may be of any later time: it is what the model learns, not what it knows. #}
labels as (
    {{ newest_labels(in_slice) }}
),

final as (
    select
        ---------- ids
        payments.transaction_id,
        payments.user_id,
        payments.merchant_id,
        payments.event_time,

        ---------- the payment
        cast(payments.amount as double) as amount,
        payments.is_international,
        payments.device_type,
        {% for name in payment_features() %}payments.{{ name }},
        {% endfor %}

        ---------- its user just before it
        {% for name in user_payment_features() %}user_states.{{ name }},
        {% endfor %}
        {% for name in user_fraud_features() %}coalesce(user_frauds.{{ name }}, 0) as {{ name }},
        {% endfor %}

        ---------- what is new about it for its user
        {% for name in novelty_features() %}user_states.{{ name }},
        {% endfor %}

        ---------- its merchant at the start of the day
        {% for name in merchant_features() %}merchant_states.{{ name }},
        {% endfor %}

        ---------- its device at the start of the day, and since then
        {% for name, expression in device_features().items() %}{{ expression }} as {{ name }},
        {% endfor %}

        ---------- the payment against what is usual for its user and its merchant
        {% set habits = habit_features('payments', 'user_states', 'merchant_states') %}
        {% for name, expression in habits.items() %}{{ expression }} as {{ name }},
        {% endfor %}

        ---------- label
        coalesce(labels.is_fraud, false) as is_fraud,
        labels.fraud_type,
        labels.reported_at as label_reported_at,

        {{ has_late_history('payments', 'user_states') }} as late_history,

        ---------- up to where Bronze was included when this row was computed
        entity_rows.matured_through,
        entity_rows.transactions_through,
        entity_rows.labels_through,
        payments.event_date
    from entity_rows
    inner join payments
        on entity_rows.transaction_id = payments.transaction_id and entity_rows.event_date = payments.event_date
    inner join user_states
        on entity_rows.transaction_id = user_states.entity_row_id
    inner join merchant_states
        on entity_rows.merchant_id = merchant_states.merchant_id and entity_rows.event_date = merchant_states.as_of_date
    left join user_frauds
        on entity_rows.transaction_id = user_frauds.entity_row_id
    left join device_states
        on entity_rows.device_id = device_states.device_id and entity_rows.event_date = device_states.as_of_date
    left join device_days
        on entity_rows.transaction_id = device_days.transaction_id and entity_rows.event_date = device_days.event_date
    left join labels
        on entity_rows.transaction_id = labels.transaction_id and entity_rows.event_date = labels.event_date
)

select * from final
{#- Without entity rows Trino need not plan the rest. -#}
{{- '\nwhere false' if execute and not bounds.entity_rows }}
{% endmacro %}

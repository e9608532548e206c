{# The training examples of one slice of int_training_anchors; the model below builds one slice after the other. #}
{% macro training_examples(slice) %}
{%- set bounds = slice_bounds(slice) -%}
{%- set first_date = "date '" ~ bounds.first_date ~ "'" -%}
{%- set last_date = "date '" ~ bounds.last_date ~ "'" -%}
{%- set are_few = execute and bounds.anchors < var('few_anchors') -%}
{%- set history = first_date ~ " - interval '31' day" -%}
with

anchors as (
    select * from {{ ref('int_training_anchors') }}
    where slice = {{ slice }}
),

transactions as (
    select * from {{ ref('int_transactions_enriched') }}
    where event_date between {{ first_date }} and {{ last_date }}
),

user_anchors as (
    select
        transaction_id as anchor_id,
        user_id,
        event_time as as_of
    from anchors
),

user_states as (
    {{ user_state('user_anchors', history, last_date, with_sets=are_few) }}
),

frauds_before as (
    {{ confirmed_frauds('user_anchors') }}
),

merchant_anchors as (
    select distinct
        merchant_id,
        event_date as as_of_date
    from anchors
),

merchant_states as (
    {{ merchant_state('merchant_anchors', history, last_date) }}
),

verdicts as (
    select
        transaction_id,
        event_date,
        max_by(is_fraud, reported_at) as is_fraud,
        max_by(fraud_type, reported_at) as fraud_type,
        max(reported_at) as reported_at
    from {{ ref('stg_labels') }}
    where event_date between {{ first_date }} and {{ last_date }}
    group by transaction_id, event_date
),

final as (
    select
        ---------- ids
        transactions.transaction_id,
        transactions.user_id,
        transactions.merchant_id,
        transactions.event_time,

        ---------- the payment
        cast(transactions.amount as double) as amount,
        transactions.is_international,
        transactions.device_type,
        transactions.event_hour,
        transactions.is_night,
        transactions.is_weekend,
        transactions.merchant_category,
        transactions.merchant_category_risk,

        ---------- the user just before it
        {% for name in user_state_numbers() %}states.{{ name }},
        {% endfor %}
        coalesce(frauds_before.confirmed_frauds, 0) as confirmed_frauds,

        ---------- the merchant at the start of the day
        {% for name in merchant_state_numbers() %}merchants.{{ name }},
        {% endfor %}

        ---------- the payment against the user's habits
        {{ against_habits('cast(transactions.amount as double)', 'transactions.event_time', 'states') }},

        ---------- label
        coalesce(verdicts.is_fraud, false) as is_fraud,
        verdicts.fraud_type,
        verdicts.reported_at as label_reported_at,

        ---------- what was known when this row was computed
        anchors.settled_through,
        anchors.transactions_through,
        anchors.labels_through,
        transactions.event_date
    from anchors
    inner join transactions
        on anchors.transaction_id = transactions.transaction_id and anchors.event_date = transactions.event_date
    inner join user_states as states
        on anchors.transaction_id = states.anchor_id
    inner join merchant_states as merchants
        on anchors.merchant_id = merchants.merchant_id and anchors.event_date = merchants.as_of_date
    left join frauds_before
        on anchors.transaction_id = frauds_before.anchor_id
    left join verdicts
        on anchors.transaction_id = verdicts.transaction_id and anchors.event_date = verdicts.event_date
)

select * from final
{#- Says to Trino that there is nothing to plan. -#}
{{- '\nwhere false' if execute and not bounds.anchors }}
{% endmacro %}

{# How many anchors a slice has, and the days of the first and of the last: constants, so that only the partitions that
   matter are read. #}
{% macro slice_bounds(slice) -%}
    {%- set bounds = {'anchors': 0, 'first_date': '1970-01-01', 'last_date': '1970-01-01'} -%}
    {%- if execute -%}
        {%- set row = run_query(
            'select count(*), cast(min(event_date) as varchar), cast(max(event_date) as varchar) from '
            ~ ref('int_training_anchors') ~ ' where slice = ' ~ slice
        ).rows[0] -%}
        {%- if row[0] -%}
            {%- do bounds.update({'anchors': row[0], 'first_date': row[1], 'last_date': row[2]}) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(bounds) }}
{%- endmacro %}

{# Merges all slices after the first into mart_training_examples: its post-hook. #}
{% macro merge_further_slices() %}
    {%- if execute -%}
        {%- set slices = run_query('select max(slice) from ' ~ ref('int_training_anchors')).columns[0][0] or 0 -%}
        {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='quoted') | list -%}
        {%- for slice in range(1, slices + 1) -%}
            {%- do log('training examples: slice ' ~ (slice + 1) ~ ' of ' ~ (slices + 1), info=true) -%}
            {%- call statement('merge_slice') -%}
                merge into {{ this }} as old
                using ({{ training_examples(slice) }}) as new
                    on old.event_date = new.event_date and old.transaction_id = new.transaction_id
                when matched then update set
                    {% for column in columns %}{{ column }} = new.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
                when not matched then insert ({{ columns | join(', ') }})
                    values ({% for column in columns %}new.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
            {%- endcall -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{# A value in the rows of the last slice, and in those before it the one from the run before. #}
{% macro once_complete(now, before) -%}
    if(slice = max(slice) over (), {{ now }}, {{ before or 'null' }})
{%- endmacro %}

{# mart_training_examples as the run before left it, if there was one. Looked up, not referenced, since it is built from
   int_training_anchors, which asks for it. #}
{% macro examples_so_far() -%}
    {{ return(adapter.get_relation(target.database, 'gold', 'mart_training_examples') if execute) }}
{%- endmacro %}

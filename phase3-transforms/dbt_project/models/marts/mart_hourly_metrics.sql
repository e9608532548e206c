{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key='metric_hour',
    on_schema_change='append_new_columns'
) }}
{%- set queries = {
    'transactions': newest('loaded_at', ref('stg_transactions')),
    'labels': newest('loaded_at', ref('stg_labels'))
} -%}
{%- if is_incremental() -%}
    {%- do queries.update({
        'transactions_before': newest('transactions_through', this), 'labels_before': newest('labels_through', this)
    }) -%}
{%- endif -%}
{%- set through = moments(queries) -%}

with

{# A day with anything new is computed again as a whole, since days are the partitions of Silver. #}
{% if is_incremental() %}
    changed_days as (
        select event_date
        from {{ ref('stg_transactions') }}
        where loaded_at > {{ through.transactions_before }}
        union distinct
        select event_date
        from {{ ref('stg_labels') }}
        where loaded_at > {{ through.labels_before }}
    ),
{% endif %}

transactions as (
    select * from {{ ref('stg_transactions') }}
    {% if is_incremental() %}
        where event_date in (select changed_days.event_date from changed_days)
    {% endif %}
),

labels as (
    {{ newest_labels() }}
),

final as (
    select
        date_trunc('hour', transactions.event_time) as metric_hour,
        count(*) as transactions,
        cast(sum(transactions.amount) as double) as amount_sum,
        cast(avg(cast(transactions.amount as double)) as double) as amount_mean,
        count(distinct transactions.user_id) as active_users,
        count(distinct transactions.merchant_id) as active_merchants,
        count_if(transactions.is_international) as international_transactions,
        count_if(transactions.amount >= {{ var('high_amount') }}) as high_amount_transactions,
        count_if(transactions.is_late) as late_transactions,
        count_if(labels.is_fraud) as known_frauds,
        coalesce(cast(sum(transactions.amount) filter (where labels.is_fraud) as double), 0) as known_fraud_amount,
        cast(count_if(labels.is_fraud) as double) / count(*) as known_fraud_rate,
        {{ through.transactions }} as transactions_through,
        {{ through.labels }} as labels_through
    from transactions
    left join labels
        on transactions.transaction_id = labels.transaction_id and transactions.event_date = labels.event_date
    group by date_trunc('hour', transactions.event_time)
)

select * from final

{# What is known of merchants at the start (00:00 UTC) of given days. The same code computes it for the present
   (mart_merchant_risk) and for every day of the past (mart_training_examples). Whole days are enough, because a
   merchant's risk moves over days: chargebacks come days later. And totals by day can be kept for every merchant in the
   online store.

   To add a feature of merchants, add it to merchant_features below. #}

{# name -> expression over `activity` (payments by window) and `known` (known frauds by window). #}
{% macro merchant_features() -%}
    {%- set features = {} -%}
    {%- for days in var('windows') -%}
        {%- set payments = 'activity.payments_' ~ days ~ 'd' -%}
        {%- do features.update({
            'merchant_transactions_' ~ days ~ 'd': payments,
            'merchant_fraud_rate_' ~ days ~ 'd': share('coalesce(known.frauds_' ~ days ~ 'd, 0)', payments),
        }) -%}
    {%- endfor -%}
    {{ return(features) }}
{%- endmacro %}

{# One row per entity row, with merchant_features.

   `entity_rows` names a CTE or relation with merchant_id and as_of_date. Payments are read from the date `since`
   (30 days before the first as_of_date, or earlier) to the date `until`. #}
{% macro merchant_state(entity_rows, since, until) %}
    with

    days as (
        select
            merchant_id,
            event_date,
            count(*) as payments
        from {{ ref('stg_transactions') }}
        where event_date between {{ since }} and {{ until }}
        group by merchant_id, event_date
    ),

    activity as (
        select
            entity_rows.merchant_id,
            entity_rows.as_of_date,
            {% for window in var('windows') %}
                coalesce(
                    {{ rolling_window('sum(days.payments)', 'days.event_date', 'entity_rows.as_of_date', window) }}, 0
                ) as payments_{{ window }}d{{ ',' if not loop.last }}
            {% endfor %}
        from {{ entity_rows }} as entity_rows
        left join days
            on
                entity_rows.merchant_id = days.merchant_id
                and entity_rows.as_of_date > days.event_date
                and days.event_date >= entity_rows.as_of_date - interval '30' day
        group by entity_rows.merchant_id, entity_rows.as_of_date
    ),

    {# A label does not name the merchant; its payment does. #}
    frauds as (
        select
            transactions.merchant_id,
            frauds.event_date,
            frauds.known_from,
            frauds.known_until
        from {{ ref('int_known_frauds') }} as frauds
        inner join {{ ref('stg_transactions') }} as transactions
            on
                frauds.transaction_id = transactions.transaction_id
                and frauds.event_date = transactions.event_date
        where
            frauds.event_date between {{ since }} and {{ until }}
            and transactions.event_date between {{ since }} and {{ until }}
    ),

    known as (
        select
            entity_rows.merchant_id,
            entity_rows.as_of_date,
            {% for days in var('windows') %}
                {{ rolling_window('count(*)', 'frauds.event_date', 'entity_rows.as_of_date', days) }}
                    as frauds_{{ days }}d{{ ',' if not loop.last }}
            {% endfor %}
        from {{ entity_rows }} as entity_rows
        inner join frauds
            on
                entity_rows.merchant_id = frauds.merchant_id
                and entity_rows.as_of_date > frauds.event_date
                and {{ start_of_day('entity_rows.as_of_date') }} >= frauds.known_from
                and coalesce({{ start_of_day('entity_rows.as_of_date') }} < frauds.known_until, true)
        group by entity_rows.merchant_id, entity_rows.as_of_date
    )

    select
        activity.merchant_id,
        activity.as_of_date,
        {% for name, expression in merchant_features().items() %}
            {{ expression }} as {{ name }}{{ ',' if not loop.last }}
        {% endfor %}
    from activity
    left join known
        on activity.merchant_id = known.merchant_id and activity.as_of_date = known.as_of_date
{% endmacro %}

{% macro start_of_day(date) -%}
    with_timezone(cast({{ date }} as timestamp(3)), 'UTC')
{%- endmacro %}

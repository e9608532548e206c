{# What is known of merchants at the start (00:00 UTC) of given days, for the present (mart_merchant_risk) and for every
   day of the past (mart_training_examples). Whole days: a merchant's risk moves over days, since chargebacks come days
   later, and totals by day are what can be kept up to date for every merchant in the online store, too.

   `anchors` names a CTE or relation with merchant_id and as_of_date; one row of it, one row of the result.
   Events are read from the date `since` (30 days before the first anchor, or earlier) to the date `until`. #}
{% macro merchant_state(anchors, since, until) %}
    with

    days as (
        select
            merchant_id,
            event_date,
            count(*) as transactions
        from {{ ref('stg_transactions') }}
        where event_date between {{ since }} and {{ until }}
        group by merchant_id, event_date
    ),

    activity as (
        select
            anchors.merchant_id,
            anchors.as_of_date,
            {% for days in var('windows') %}
                coalesce({{ rolling_window('sum(days.transactions)', 'days.event_date', 'anchors.as_of_date', days) }}, 0)
                    as merchant_transactions_{{ days }}d{{ ',' if not loop.last }}
            {% endfor %}
        from {{ anchors }} as anchors
        left join days
            on
                anchors.merchant_id = days.merchant_id
                and anchors.as_of_date > days.event_date
                and days.event_date >= anchors.as_of_date - interval '30' day
        group by anchors.merchant_id, anchors.as_of_date
    ),

    {# A label names no merchant: its payment does. #}
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
            anchors.merchant_id,
            anchors.as_of_date,
            {% for days in var('windows') %}
                {{ rolling_window('count(*)', 'frauds.event_date', 'anchors.as_of_date', days) }}
                    as frauds_{{ days }}d{{ ',' if not loop.last }}
            {% endfor %}
        from {{ anchors }} as anchors
        inner join frauds
            on
                anchors.merchant_id = frauds.merchant_id
                and anchors.as_of_date > frauds.event_date
                and with_timezone(cast(anchors.as_of_date as timestamp(3)), 'UTC') >= frauds.known_from
                and coalesce(with_timezone(cast(anchors.as_of_date as timestamp(3)), 'UTC') < frauds.known_until, true)
        group by anchors.merchant_id, anchors.as_of_date
    )

    select
        activity.merchant_id,
        activity.as_of_date,
        {% for days in var('windows') %}
            activity.merchant_transactions_{{ days }}d,
            {{ share('coalesce(known.frauds_' ~ days ~ 'd, 0)', 'activity.merchant_transactions_' ~ days ~ 'd') }}
                as merchant_fraud_rate_{{ days }}d{{ ',' if not loop.last }}
        {% endfor %}
    from activity
    left join known
        on activity.merchant_id = known.merchant_id and activity.as_of_date = known.as_of_date
{% endmacro %}

{% macro merchant_state_numbers() -%}
    {%- set names = [] -%}
    {%- for days in var('windows') -%}
        {%- do names.append('merchant_transactions_' ~ days ~ 'd') -%}
        {%- do names.append('merchant_fraud_rate_' ~ days ~ 'd') -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}

{# A number for the risk of a merchant's category; one that nobody knows is taken for medium. #}
{% macro category_risk(column) -%}
    case {{ column }} when 'low' then 0 when 'high' then 2 else 1 end
{%- endmacro %}

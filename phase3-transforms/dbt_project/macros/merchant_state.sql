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
            'merchant_frauds_reported_' ~ days ~ 'd': 'coalesce(known.reported_' ~ days ~ 'd, 0)',
        }) -%}
    {%- endfor -%}
    {#- As decimals, since the products are larger than a bigint. -#}
    {%- set whole = 'cast(activity.{} as decimal(19, 0))' -%}
    {%- set payments, sum, squares = whole.format('payments_30d'), whole.format('log_sum'), whole.format('log_squares') -%}
    {%- set deviation = 'cast(' ~ payments ~ ' * ' ~ squares ~ ' - ' ~ sum ~ ' * ' ~ sum ~ ' as double)' -%}
    {%- set mean = share('activity.log_sum', 'activity.payments_30d') -%}
    {%- do features.update({
        'merchant_log_mean_30d': mean ~ ' / ' ~ var('log_steps'),
        'merchant_log_stddev_30d': share('sqrt(' ~ deviation ~ ')', 'activity.payments_30d') ~ ' / ' ~ var('log_steps'),
    }) -%}
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
            count(*) as payments,
            sum(log_amount) as log_sum,
            sum(log_amount * log_amount) as log_squares
        from (
            select
                merchant_id,
                event_date,
                {{ log_steps('amount') }} as log_amount
            from {{ ref('stg_transactions') }}
            where event_date between {{ since }} and {{ until }}
        )
        group by merchant_id, event_date
    ),

    activity as (
        select
            entity_rows.merchant_id,
            entity_rows.as_of_date,
            {% for window in var('windows') %}
                coalesce(
                    {{ rolling_window('sum(days.payments)', 'days.event_date', 'entity_rows.as_of_date', window) }}, 0
                ) as payments_{{ window }}d,
            {% endfor %}
            {# The join has only the longest window. #}
            coalesce(sum(days.log_sum), 0) as log_sum,
            coalesce(sum(days.log_squares), 0) as log_squares
        from {{ entity_rows }} as entity_rows
        left join days
            on
                entity_rows.merchant_id = days.merchant_id
                and entity_rows.as_of_date > days.event_date
                and days.event_date >= entity_rows.as_of_date - interval '30' day
        group by entity_rows.merchant_id, entity_rows.as_of_date
    ),

    frauds as (
        {{ known_frauds_with('merchant_id', since, until) }}
    ),

    known as (
        {{ known_frauds_by_window(entity_rows, 'merchant_id') }}
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

{# The known frauds among the payments of some dates, with a column of their payments: labels have no merchant and no
   device. #}
{% macro known_frauds_with(column, since, until) %}
    select
        transactions.{{ column }},
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
{% endmacro %}

{# One row per entity row with frauds among its payments of the 30 days before as_of_date: of those of each window, how
   many are known as frauds at its start (frauds_<days>d); and of all of them, how many more are known than so many days
   earlier (reported_<days>d). `frauds` are the rows of known_frauds_with. #}
{% macro known_frauds_by_window(entity_rows, column) %}
    {%- set now = start_of_day('entity_rows.as_of_date') -%}
    select
        entity_rows.{{ column }},
        entity_rows.as_of_date,
        {% for days in var('windows') %}
            {%- set before = now ~ " - interval '" ~ days ~ "' day" -%}
            {{ rolling_window(
                'count(*)', 'frauds.event_date', 'entity_rows.as_of_date', days,
                'coalesce(' ~ now ~ ' < frauds.known_until, true)'
            ) }} as frauds_{{ days }}d,
            count(*) filter (where frauds.known_from > {{ before }})
            - count(*) filter (where frauds.known_until > {{ before }} and frauds.known_until <= {{ now }})
                as reported_{{ days }}d{{ ',' if not loop.last }}
        {% endfor %}
    from {{ entity_rows }} as entity_rows
    inner join frauds
        on
            entity_rows.{{ column }} = frauds.{{ column }}
            and entity_rows.as_of_date > frauds.event_date
            and frauds.event_date >= entity_rows.as_of_date - interval '30' day
            and {{ now }} >= frauds.known_from
    group by entity_rows.{{ column }}, entity_rows.as_of_date
{% endmacro %}

{# The natural logarithm of an amount, in cents, as a whole number of steps: sums of it are exact. #}
{% macro log_steps(amount) -%}
    cast(round({{ var('log_steps') }} * ln(cast({{ amount }} * 100 as double))) as bigint)
{%- endmacro %}

{% macro start_of_day(date) -%}
    with_timezone(cast({{ date }} as timestamp(3)), 'UTC')
{%- endmacro %}

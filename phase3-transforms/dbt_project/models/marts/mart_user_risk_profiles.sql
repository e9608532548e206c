{{ config(materialized='table') }}
{%- set as_of = as_of() -%}
{#- These thresholds are for people who read reports; the model that scores payments uses none of them. -#}

with

features as (
    select * from {{ ref('mart_fraud_features') }}
),

main_countries as (
    select
        user_id,
        {# Of several with as many payments, the last by name, so that every run gives the same. #}
        max_by(country, row(payments, coalesce(country, ''))) as main_country
    from (
        select
            user_id,
            country,
            count(*) as payments
        from {{ ref('stg_transactions') }}
        where
            event_date >= date({{ as_of }}) - interval '30' day
            and event_time between {{ as_of }} - interval '30' day and {{ as_of }}
        group by user_id, country
    )
    group by user_id
),

final as (
    select
        features.user_id,
        main_countries.main_country,
        case
            when features.transactions_30d = 0 then 'inactive'
            when features.transactions_7d > 2 * 7 * features.transactions_30d / 30.0 then 'rising'
            else 'steady'
        end as activity,
        case
            when features.amount_mean_30d >= 150 then 'high'
            when features.amount_mean_30d >= 40 then 'medium'
            else 'low'
        end as spending,
        case
            when features.confirmed_frauds > 0 then 'high'
            when
                features.distinct_countries_30d >= 4 or features.distinct_devices_30d >= 4
                or features.amount_max_1d > 5 * nullif(features.amount_mean_30d, 0)
                then 'elevated'
            else 'normal'
        end as risk_profile,
        features.transactions_30d,
        features.amount_sum_30d,
        features.amount_mean_30d,
        features.amount_max_30d,
        features.distinct_merchants_30d,
        features.distinct_countries_30d,
        features.distinct_devices_30d,
        features.international_ratio_30d,
        features.confirmed_frauds,
        features.last_event_time,
        features.as_of
    from features
    left join main_countries
        on features.user_id = main_countries.user_id
)

select * from final

{# What follows from a payment alone and from its merchant's category: name -> expression over `transactions`,
   `merchants` (the seed's row of its merchant) and `category_risks` (of the category that the payment gives). To add a
   feature of this kind, add it here. #}
{% macro payment_features() -%}
    {%- set hour = "hour(at_timezone(transactions.event_time, 'UTC'))" -%}
    {{ return({
        'merchant_category': merchant_category('transactions.merchant_category', 'merchants'),
        'merchant_category_risk': merchant_category_risk('transactions.merchant_category', 'merchants'),
        'is_local_currency': local_currency('transactions'),
        'event_hour': hour,
        'is_night': hour ~ ' < 6',
        'is_weekend': 'day_of_week(transactions.event_date) >= 6',
    }) }}
{%- endmacro %}

{# 1 if the currency is that of the payment's country, 0 if another one, -1 if one of the two is not given (XXX is ISO 4217
   for none). But for the euro, a currency begins with the code of its country. #}
{% macro local_currency(payment) -%}
    case
        when
            {{ payment }}.currency is null or {{ payment }}.currency = 'XXX'
            or length(coalesce({{ payment }}.country, '')) <> 2
            then -1
        when substr({{ payment }}.currency, 1, 2) = {{ payment }}.country then 1
        when
            {{ payment }}.currency = 'EUR'
            and {{ payment }}.country in ('{{ var('euro_countries') | join("', '") }}')
            then 1
        else 0
    end
{%- endmacro %}

{# A category that payments give wins over that of the seed. #}
{% macro merchant_category(given, seed) -%}
    coalesce({{ given }}, {{ seed }}.category, 'unknown')
{%- endmacro %}

{# Its risk. `category_risks` must be joined on the given category. #}
{% macro merchant_category_risk(given, seed) -%}
    case when {{ given }} is null then {{ category_risk(seed ~ '.category_risk') }}
        else coalesce(category_risks.risk, 1)
    end
{%- endmacro %}

{# One row per category of the seed, with its risk as a number: the highest, if its merchants differ. #}
{% macro category_risks() -%}
    select
        category,
        max({{ category_risk('category_risk') }}) as risk
    from {{ ref('merchants') }}
    group by category
{%- endmacro %}

{# The risk of a category as a number; an unknown category counts as medium. #}
{% macro category_risk(column) -%}
    case {{ column }} when 'low' then 0 when 'high' then 2 else 1 end
{%- endmacro %}

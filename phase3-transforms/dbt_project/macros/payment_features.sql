{# What follows from a payment alone and from its merchant's category: name -> expression over `transactions` and
   `merchants`. To add a feature of this kind, add it here. #}
{% macro payment_features() -%}
    {%- set hour = "hour(at_timezone(transactions.event_time, 'UTC'))" -%}
    {{ return({
        'merchant_category': "coalesce(merchants.category, 'unknown')",
        'merchant_category_risk': category_risk('merchants.category_risk'),
        'event_hour': hour,
        'is_night': hour ~ ' < 6',
        'is_weekend': 'day_of_week(transactions.event_date) >= 6',
    }) }}
{%- endmacro %}

{# The risk of a merchant's category as a number; an unknown category counts as medium. #}
{% macro category_risk(column) -%}
    case {{ column }} when 'low' then 0 when 'high' then 2 else 1 end
{%- endmacro %}

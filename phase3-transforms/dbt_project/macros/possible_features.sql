{# What can't be true of a user's features, whatever the payments: conditions over the columns of a mart. Sums and
   deviations of doubles have rounding errors, so they may exceed their bounds by a millionth. #}
{% macro impossible_user_features() -%}
    {%- set conditions = [
        'small_transactions_1h > transactions_1h',
        'small_transactions_1d > transactions_1d',
        'small_transactions_1h > small_transactions_1d',
        'new_merchants_1d > transactions_1d',
        'new_merchants_1d > distinct_merchants_30d',
        'international_ratio_30d not between 0 and 1',
        'high_amount_ratio_30d not between 0 and 1',
        'frauds_reported_30d > confirmed_frauds',
    ] -%}
    {%- set windows = [] -%}
    {%- for window in var('short_windows') -%}
        {%- do windows.append(window) -%}
    {%- endfor -%}
    {%- do windows.extend(['1d', '7d', '30d']) -%}
    {%- for shorter in windows[:-1] -%}
        {%- set longer = windows[loop.index] -%}
        {%- do conditions.append('transactions_' ~ shorter ~ ' > transactions_' ~ longer) -%}
        {%- do conditions.append('amount_sum_' ~ shorter ~ ' > amount_sum_' ~ longer) -%}
    {%- endfor -%}
    {%- for shorter, longer in [(1, 7), (7, 30)] -%}
        {%- do conditions.append('amount_max_' ~ shorter ~ 'd > amount_max_' ~ longer ~ 'd') -%}
        {%- do conditions.append('frauds_reported_' ~ shorter ~ 'd > frauds_reported_' ~ longer ~ 'd') -%}
    {%- endfor -%}
    {%- for days in var('windows') -%}
        {%- set window = days ~ 'd' -%}
        {%- set most = 'amount_max_' ~ window ~ ' * 1.000001' -%}
        {%- do conditions.append('(transactions_' ~ window ~ ' = 0) <> (amount_sum_' ~ window ~ ' = 0)') -%}
        {%- do conditions.append('amount_sum_' ~ window ~ ' > transactions_' ~ window ~ ' * ' ~ most) -%}
        {%- do conditions.append('amount_mean_' ~ window ~ ' > ' ~ most) -%}
        {#- Of amounts that are not negative, the population's standard deviation is at most half of the largest. -#}
        {%- do conditions.append('2 * amount_stddev_' ~ window ~ ' > ' ~ most) -%}
        {%- do conditions.append('is_nan(amount_stddev_' ~ window ~ ')') -%}
    {%- endfor -%}
    {%- for column in ['distinct_merchants_30d', 'distinct_countries_30d', 'distinct_devices_30d'] -%}
        {%- do conditions.append(column ~ ' > transactions_30d') -%}
        {%- do conditions.append('(' ~ column ~ ' = 0) <> (transactions_30d = 0)') -%}
    {%- endfor -%}
    {{ return(conditions) }}
{%- endmacro %}

{# The same of a merchant's features. #}
{% macro impossible_merchant_features() -%}
    {{ return([
        'merchant_transactions_1d > merchant_transactions_7d',
        'merchant_transactions_7d > merchant_transactions_30d',
        'merchant_fraud_rate_1d not between 0 and 1',
        'merchant_fraud_rate_7d not between 0 and 1',
        'merchant_fraud_rate_30d not between 0 and 1',
        'merchant_frauds_reported_30d > merchant_transactions_30d',
        '(merchant_transactions_30d = 0) and merchant_log_mean_30d <> 0',
        'is_nan(merchant_log_stddev_30d)',
    ]) }}
{%- endmacro %}

{# The columns of mart_training_examples that are features, but for what the payment itself says. None is ever null. #}
{% macro feature_columns() -%}
    {%- set columns = [] -%}
    {%- for features in [
        payment_features(), user_payment_features(), user_fraud_features(), novelty_features(), merchant_features(),
        device_features(), habit_features('payments', 'states', 'merchants')
    ] -%}
        {%- do columns.extend(features.keys() | list) -%}
    {%- endfor -%}
    {{ return(columns) }}
{%- endmacro %}

{# How a payment compares with what its user did before, and with what is usual at its merchant: name -> expression. A
   user without history counts as average: ratio 1, score 0, and the last payment as long ago as the longest window.

   `payment` is the alias of the payment, `state` of its row of user_state, `merchant` of its row of merchant_state. To
   add a feature of this kind, add it here. #}
{% macro habit_features(payment, state, merchant) -%}
    {%- set amount, event_time = 'cast(' ~ payment ~ '.amount as double)', payment ~ '.event_time' -%}
    {%- set usual, deviation = merchant ~ '.merchant_log_mean_30d', merchant ~ '.merchant_log_stddev_30d' -%}
    {%- set log_amount = 'cast(' ~ log_steps(payment ~ '.amount') ~ ' as double) / ' ~ var('log_steps') -%}
    {%- set mean, stddev = state ~ '.amount_mean_30d', state ~ '.amount_stddev_30d' -%}
    {%- set milliseconds = "date_diff('millisecond', " ~ state ~ '.last_event_time, ' ~ event_time ~ ')' -%}
    {{ return({
        'amount_to_mean_30d': 'case when ' ~ mean ~ ' > 0 then ' ~ amount ~ ' / ' ~ mean ~ ' else 1 end',
        'amount_zscore_30d':
            'case when ' ~ stddev ~ ' > 0 then (' ~ amount ~ ' - ' ~ mean ~ ') / ' ~ stddev ~ ' else 0 end',
        'seconds_since_last': 'coalesce(cast(' ~ milliseconds ~ ' as double) / 1000, 30 * 86400)',
        'transactions_1d_to_30d': share(state ~ '.transactions_1d', state ~ '.transactions_30d'),
        'amount_1d_to_30d': share(state ~ '.amount_sum_1d', state ~ '.amount_sum_30d'),
        'new_merchants_1d_ratio': share(state ~ '.new_merchants_1d', state ~ '.transactions_1d'),
        'merchant_amount_zscore_30d':
            'case when ' ~ deviation ~ ' > 0 then (' ~ log_amount ~ ' - ' ~ usual ~ ') / ' ~ deviation ~ ' else 0 end',
    }) }}
{%- endmacro %}

-- An example does not count its own payment, nor what happened after it; and its features agree with each other. Of the
-- newest week of examples, which every run adds to.
select *
from {{ ref('mart_training_examples') }}
where
    event_date >= date({{ as_of() }}) - interval '{{ var('label_maturity_days') }}' day - interval '7' day
    and (
        -- The newest payment that counts was a millisecond earlier, or more.
        seconds_since_last not between 0.001 and 2592000
        or seconds_since_merchant not between least(seconds_since_last, 86400) and 2592000
        or seconds_since_device not between least(seconds_since_last, 86400) and 2592000
        or hour_share_30d not between 0 and 1
        -- New is what no earlier payment has.
        or (is_new_merchant_30d = 1) <> (merchant_share_30d = 0)
        or (is_new_device_30d = 1) <> (device_share_30d = 0)
        or (transactions_30d = 0 and is_new_merchant_30d + is_new_device_30d + is_new_country_30d > 0)
        or merchant_share_30d not between 0 and 1
        or device_share_30d not between 0 and 1
        or device_users_30d not between 0 and {{ var('device_users_counted') }}
        or device_users_today not between 0 and {{ var('device_users_counted') }}
        or transactions_1d_to_30d not between 0 and 1
        or amount_1d_to_30d not between 0 and 1
        or new_merchants_1d_ratio not between 0 and 1
        or (event_hour < 6) <> is_night
        or is_nan(amount_zscore_30d)
        or is_nan(merchant_amount_zscore_30d)
        or {{ feature_columns() | join(' is null\n        or ') }} is null
        or {{ impossible_user_features() | join('\n        or ') }}
        or {{ impossible_merchant_features() | join('\n        or ') }}
    )

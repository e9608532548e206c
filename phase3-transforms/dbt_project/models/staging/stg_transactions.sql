{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    properties={'partitioned_by': "array['event_date']"}
) }}

with

source as (
    select * from {{ source('bronze', 'transactions') }}
    {% if is_incremental() %}
        {# Ten minutes more, in case the clock of Bronze's writer was set back; copies are left out below. #}
        where loaded_at > {{ moments({'loaded': newest('loaded_at', this)}).loaded }} - interval '10' minute
    {% endif %}
),

renamed as (
    select
        ---------- ids
        transaction_id,
        user_id,
        merchant_id,
        device_id,

        ---------- payment
        amount,
        currency,
        is_international,
        device_type,

        ---------- merchant and location
        merchant_name,
        {# An empty text is no category. #}
        nullif({{ bronze_column('transactions', 'merchant_category') }}, '') as merchant_category,
        country,
        city,

        ---------- times
        event_time,
        event_date,
        kafka_timestamp,
        loaded_at,
        is_late,

        row_number() over (
            partition by transaction_id order by loaded_at, kafka_partition, kafka_offset
        ) as copy_number
    from source
),

{% if is_incremental() %}
    {# The days on which a copy may be. The days between the oldest and the newest would be years if one payment has a
       wrong time. #}
    days_of_copies as (
        select distinct source_days.event_date + shifts.days * interval '1' day as event_date
        from (select distinct event_date from source) as source_days
        cross join unnest(sequence(-{{ var('duplicate_days') }}, {{ var('duplicate_days') }})) as shifts (days)
    ),

    existing as (
        select transaction_id
        from {{ this }}
        where
            event_date in (select days_of_copies.event_date from days_of_copies)
            and transaction_id in (select source.transaction_id from source)
    ),
{% endif %}

final as (
    select
        transaction_id,
        user_id,
        merchant_id,
        device_id,
        amount,
        currency,
        is_international,
        device_type,
        merchant_name,
        merchant_category,
        country,
        city,
        event_time,
        event_date,
        kafka_timestamp,
        loaded_at,
        is_late
    from renamed
    where
        copy_number = 1
        {% if is_incremental() %}
            and transaction_id not in (select existing.transaction_id from existing)
        {% endif %}
)

select * from final

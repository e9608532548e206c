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
        country,
        city,

        ---------- times
        event_time,
        event_date,
        loaded_at,
        is_late,

        row_number() over (
            partition by transaction_id order by loaded_at, kafka_partition, kafka_offset
        ) as copy_number
    from source
),

{% if is_incremental() %}
    existing as (
        select transaction_id
        from {{ this }}
        where
            event_date >= (select min(event_date) from source) - interval '{{ var("duplicate_days") }}' day
            and event_date <= (select max(event_date) from source) + interval '{{ var("duplicate_days") }}' day
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
        country,
        city,
        event_time,
        event_date,
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

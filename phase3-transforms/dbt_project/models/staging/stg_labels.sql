{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns'
) }}

with

source as (
    select * from {{ source('bronze', 'labels') }}
    {% if is_incremental() %}
        where loaded_at > {{ moments({'loaded': newest('loaded_at', this)}).loaded }} - interval '10' minute
    {% endif %}
),

renamed as (
    select
        ---------- ids
        transaction_id,
        user_id,

        ---------- label
        is_fraud,
        fraud_type,

        ---------- times
        event_time,
        event_date,
        reported_at,
        loaded_at,

        row_number() over (
            partition by transaction_id, reported_at order by loaded_at, kafka_partition, kafka_offset
        ) as copy_number
    from source
),

final as (
    select
        transaction_id,
        user_id,
        is_fraud,
        fraud_type,
        event_time,
        event_date,
        reported_at,
        loaded_at
    from renamed
    where
        copy_number = 1
        {% if is_incremental() %}
            and not exists (
                select 1
                from {{ this }} as existing
                where
                    existing.transaction_id = renamed.transaction_id
                    and existing.reported_at = renamed.reported_at
            )
        {% endif %}
)

select * from final

{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key=['event_date', 'transaction_id'],
    on_schema_change='append_new_columns',
    properties={'partitioned_by': "array['event_date']"},
    post_hook='{{ merge_further_slices() }}'
) }}
{#- The query runs once for each slice, so it is a macro: macros/training_examples.sql. -#}
{{- require_all_entity_rows() -}}
{{ training_examples(0) }}

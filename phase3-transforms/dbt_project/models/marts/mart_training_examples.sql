{{ config(
    materialized='incremental',
    incremental_strategy='merge',
    unique_key=['event_date', 'transaction_id'],
    on_schema_change='append_new_columns',
    properties={'partitioned_by': "array['event_date']"},
    post_hook='{{ merge_further_slices() }}'
) }}
{#- The query is a macro, since it runs once for each slice: macros/training_examples.sql. -#}
{{- require_all_anchors() -}}
{{ training_examples(0) }}

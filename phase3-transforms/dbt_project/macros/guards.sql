{# A full refresh of the examples needs the anchors of all settled payments, not those of the last run. #}
{% macro require_all_anchors() -%}
    {%- if execute and flags.WHICH in ['run', 'build'] and not is_incremental() -%}
        {%- set settled = as_of() ~ " - interval '" ~ var('label_maturity_days') ~ "' day" -%}
        {%- set missing = run_query(
            '(select transaction_id from ' ~ ref('stg_transactions') ~ ' where event_time <= ' ~ settled ~ ')'
            ~ ' except (select transaction_id from ' ~ ref('int_training_anchors') ~ ') limit 1'
        ) -%}
        {%- if missing | length -%}
            {{ exceptions.raise_compiler_error(
                'mart_training_examples is to be built anew, but int_training_anchors holds only what the last run changed. '
                ~ 'Build both: dbt run --full-refresh --select int_training_anchors mart_training_examples'
            ) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

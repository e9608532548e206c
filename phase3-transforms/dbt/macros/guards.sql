{# A full refresh of the examples needs the anchors of all of them, not those of the last run. #}
{% macro require_all_anchors() -%}
    {%- if execute and flags.WHICH in ['run', 'build'] and not is_incremental() -%}
        {%- set partial = run_query('select count(*) from ' ~ ref('int_training_anchors') ~ ' where not is_everything').columns[0][0] -%}
        {%- if partial -%}
            {{ exceptions.raise_compiler_error(
                'mart_training_examples is to be built anew, but int_training_anchors holds only what the last run changed. '
                ~ 'Build both: dbt run --full-refresh --select int_training_anchors mart_training_examples'
            ) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

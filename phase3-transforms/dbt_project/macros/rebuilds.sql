{# When a table is rebuilt from all of Silver instead of being added to. #}

{# Overrides dbt's own macro: a table with other columns than its model is rebuilt, too, as after an upgrade. A merge
   would leave a column behind with values that nothing updates, or a new one without values in the old rows. #}
{% macro should_full_refresh() %}
    {%- set configured = config.get('full_refresh') -%}
    {%- if configured is not none -%}
        {{ return(configured) }}
    {%- endif -%}
    {{ return(
        flags.FULL_REFRESH
        or (execute and config.get('materialized') == 'incremental' and has_other_columns(load_cached_relation(this)))
    ) }}
{% endmacro %}

{# Whether a table has other columns than the contract of its model lists. #}
{% macro has_other_columns(relation) -%}
    {%- set found = [] -%}
    {%- if relation and relation.is_table -%}
        {%- set columns = adapter.get_columns_in_relation(relation) | map(attribute='name') | sort -%}
        {%- for node in graph.nodes.values() -%}
            {%- if node.resource_type == 'model' and node.name == relation.identifier and node.contract.enforced -%}
                {%- do found.append(node.name) if columns != node.columns.keys() | sort -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found | length > 0) }}
{%- endmacro %}

{# mart_training_examples as the previous run left it; none if there is no such table, or if this run rebuilds it. It is
   looked up, not referenced, since it is built from int_training_entity_rows, which asks for it. #}
{% macro examples_so_far() -%}
    {%- set examples = adapter.get_relation(target.database, 'gold', 'mart_training_examples') if execute else none -%}
    {{ return(none if flags.FULL_REFRESH or has_other_columns(examples) else examples) }}
{%- endmacro %}

{# A rebuild of the examples needs the entity rows of all matured payments, not only those of the last run. #}
{% macro require_all_entity_rows() -%}
    {%- if execute and flags.WHICH in ['run', 'build'] and not is_incremental() -%}
        {%- set matured = as_of() ~ " - interval '" ~ var('label_maturity_days') ~ "' day" -%}
        {%- set missing = run_query(
            '(select transaction_id from ' ~ ref('stg_transactions') ~ ' where event_time <= ' ~ matured ~ ')'
            ~ ' except (select transaction_id from ' ~ ref('int_training_entity_rows') ~ ') limit 1'
        ) -%}
        {%- if missing | length -%}
            {{ exceptions.raise_compiler_error(
                'mart_training_examples needs a rebuild, but int_training_entity_rows has only what the last run '
                ~ 'changed. Build both: dbt run --full-refresh --select int_training_entity_rows mart_training_examples'
            ) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

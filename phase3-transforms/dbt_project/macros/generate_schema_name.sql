{# Schemas are named silver and gold, for every target: dbt's own rule would make silver_silver of them. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}

{# Tables belong on the object store; without a location they would land beside Trino's list of tables. #}
{% macro trino__create_schema(relation) -%}
    {%- call statement('create_schema') -%}
        create schema if not exists {{ relation.without_identifier() }}
        with (location = 's3://lakehouse/{{ relation.schema }}')
    {%- endcall -%}
{% endmacro %}

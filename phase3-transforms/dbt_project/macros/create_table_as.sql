{# A table is replaced in one commit: readers see the old rows or the new ones, also under a contract, for which the
   adapter's own macro empties the table first.

   A new table is created empty, then filled: if Trino dies meanwhile, it leaves a table that the next run fills. A
   `create table as` would leave files without a table, and they stop every later one at the same location. #}
{% macro trino__create_table_as(temporary, relation, sql, on_exists=none) -%}
    {%- if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(sql) }}
        {%- set sql = get_select_subquery(sql) -%}
    {%- endif -%}
    {%- if on_exists == 'replace' and load_cached_relation(relation) -%}
        create or replace table {{ relation }}
        {{ comment(model.get('description')) }}
        {{ properties(temporary) }}
        as ({{ sql }})
    {%- else -%}
        create table {{ relation }}
        {{ comment(model.get('description')) }}
        {{ properties(temporary) }}
        as ({{ sql }}) with no data;
        insert into {{ relation }} select * from ({{ sql }})
    {%- endif -%}
{%- endmacro %}

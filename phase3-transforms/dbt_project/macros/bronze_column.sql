{# A column of a Bronze table that an older table may lack, as text: Spark adds it with the first message that has the
   field. Until then it is null. #}
{% macro bronze_column(table, column) -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set found = adapter.get_columns_in_relation(source('bronze', table)) | map(attribute='name') | list -%}
    {%- endif -%}
    {{ column if column in found else 'cast(null as varchar)' }}
{%- endmacro %}

{# The times that a model needs. They are read once and become constants in the query, so that Trino can skip the files
   and partitions that they rule out. #}

{# The data clock: the newest event time in Silver. Replayed data of any year has its own present. #}
{% macro as_of() -%}
    {{ moments({'as_of': newest_event()}).as_of }}
{%- endmacro %}

{% macro newest_event() -%}
    select max(event_time) from {{ ref('stg_transactions') }}
    where event_date = (select max(event_date) from {{ ref('stg_transactions') }})
{%- endmacro %}

{# The newest value of a time column of a relation. #}
{% macro newest(column, relation) -%}
    select max({{ column }}) from {{ relation }}
{%- endmacro %}

{# Several moments by one query, since each query takes time: from names and queries to names and constants. A moment
   that is not known yet is long ago. #}
{% macro moments(queries) -%}
    {%- set columns = [] -%}
    {%- for query in queries.values() -%}
        {%- do columns.append("format_datetime(at_timezone((" ~ query ~ "), 'UTC'), 'yyyy-MM-dd HH:mm:ss.SSS')") -%}
    {%- endfor -%}
    {%- set values = run_query('select ' ~ columns | join(', ')).rows[0] if execute else [] -%}
    {%- set constants = {} -%}
    {%- for name in queries -%}
        {%- do constants.update({name: "timestamp '" ~ (values[loop.index0] or '1970-01-01 00:00:00') ~ " UTC'"}) -%}
    {%- endfor -%}
    {{ return(constants) }}
{%- endmacro %}

{# What a model knows of time. Each is asked once and becomes a constant in the query, so that Trino can leave out the
   files and partitions that it rules out. #}

{# The data clock: the newest event time in Silver. Replayed data of any year has its own "now". #}
{% macro as_of() -%}
    {{ timestamp_or(
        'select max(event_time) from ' ~ ref('stg_transactions')
        ~ ' where event_date = (select max(event_date) from ' ~ ref('stg_transactions') ~ ')',
        '1970-01-01 00:00:00 UTC'
    ) }}
{%- endmacro %}

{# The newest and the oldest value of a time column of a relation; long ago when there is none. #}
{% macro newest(column, relation) -%}
    {{ timestamp_or('select max(' ~ column ~ ') from ' ~ relation, '1970-01-01 00:00:00 UTC') }}
{%- endmacro %}

{% macro oldest(column, relation) -%}
    {{ timestamp_or('select min(' ~ column ~ ') from ' ~ relation, '1970-01-01 00:00:00 UTC') }}
{%- endmacro %}

{% macro timestamp_or(query, otherwise) -%}
    {%- if execute -%}
        {%- set value = run_query("select format_datetime(at_timezone((" ~ query ~ "), 'UTC'), 'yyyy-MM-dd HH:mm:ss.SSS')").columns[0][0] -%}
    {%- endif -%}
    timestamp '{{ value ~ " UTC" if value else otherwise }}'
{%- endmacro %}

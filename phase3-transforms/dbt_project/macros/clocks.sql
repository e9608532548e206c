{# The times that a model needs. They are read once and become constants in the query, so that Trino can skip the files
   and partitions that they rule out. #}

{# The data clock: the third-newest of the users' newest event times; with fewer users, the oldest of these. Replayed
   data of any year has its own present, and two users with a wrong time can't move it. A payment that is newer than the
   clock waits: it is in windows and examples once the clock has passed it. #}
{% macro as_of() -%}
    {{ moments({'as_of': data_clock()}).as_of }}
{%- endmacro %}

{% macro data_clock() -%}
    select min(newest) from (
        select max(event_time) as newest
        from {{ ref('stg_transactions') }}
        {{ days_of_the_clock() }}
        group by user_id
        order by newest desc
        limit {{ var('data_clock_rank') }}
    )
{%- endmacro %}

{# The newest days suffice if enough users paid on them: all other users' newest payments are older. If they don't, all
   days are read. #}
{% macro days_of_the_clock() -%}
    {%- if execute -%}
        {%- set silver = ref('stg_transactions') -%}
        {%- set newest = run_query(
            'select count(distinct user_id) as users, cast(min(event_date) as varchar) as since from ' ~ silver
            ~ ' where event_date >= (select min(event_date) from'
            ~ ' (select distinct event_date from ' ~ silver ~ ' order by event_date desc limit 3))'
        ).rows[0] -%}
        {%- if newest.users >= var('data_clock_rank') -%}
            where event_date >= date '{{ newest.since }}'
        {%- endif -%}
    {%- endif -%}
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
        {%- do constants.update({name: "timestamp '" ~ (values[loop.index0] or '1970-01-01 00:00:00.000') ~ " UTC'"}) -%}
    {%- endfor -%}
    {{ return(constants) }}
{%- endmacro %}

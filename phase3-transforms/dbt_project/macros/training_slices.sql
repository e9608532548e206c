{# Examples are built in slices, oldest payments first: a first build of all examples at once would not fit into
   memory. #}

{# How many entity rows a slice has, and the days of its first and last: constants, so that only the partitions that
   matter are read. #}
{% macro slice_bounds(slice) -%}
    {%- set bounds = {'entity_rows': 0, 'first_date': '1970-01-01', 'last_date': '1970-01-01'} -%}
    {%- if execute -%}
        {%- set row = run_query(
            'select count(*) as entity_rows, cast(min(event_date) as varchar) as first_date,'
            ~ ' cast(max(event_date) as varchar) as last_date from ' ~ ref('int_training_entity_rows')
            ~ ' where slice = ' ~ slice
        ).rows[0] -%}
        {%- if row.entity_rows -%}
            {%- do bounds.update(row.dict()) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(bounds) }}
{%- endmacro %}

{# The post-hook of mart_training_examples: merges all slices after the first. #}
{% macro merge_further_slices() %}
    {%- if execute -%}
        {%- set slices = run_query('select max(slice) from ' ~ ref('int_training_entity_rows')).columns[0][0] or 0 -%}
        {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='quoted') | list -%}
        {%- for slice in range(1, slices + 1) -%}
            {%- do log('training examples: slice ' ~ (slice + 1) ~ ' of ' ~ (slices + 1), info=true) -%}
            {%- call statement('merge_slice') -%}
                merge into {{ this }} as old
                using ({{ training_examples(slice) }}) as new
                    on old.event_date = new.event_date and old.transaction_id = new.transaction_id
                when matched then update set
                    {% for column in columns %}{{ column }} = new.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
                when not matched then insert ({{ columns | join(', ') }})
                    values ({% for column in columns %}new.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
            {%- endcall -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{# A value in the rows of the last slice; earlier slices get the value of the run before. So a run that dies between two
   slices is repeated by the next run. #}
{% macro once_complete(now, before) -%}
    if(slice = max(slice) over (), {{ now }}, {{ before or 'null' }})
{%- endmacro %}

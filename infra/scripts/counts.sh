#!/usr/bin/env bash
# Sourced by backup and the restore drill: what each store that runs says that it has, a line each with tabs between:
# store, what, count. Two stacks with the same data have the same lines, once nothing writes any more.

stores() { printf '%s\n' kafka minio postgres redis trino; }

in_store() { docker compose exec --no-TTY "$@" </dev/null; }

# Messages ever written, by topic; and the sum of the offsets that each group has committed.
count_kafka() {
  in_store kafka kafka-get-offsets --bootstrap-server localhost:29092 |
    awk -F: '$1 !~ /^__/ {sum[$1] += $3} END {for (topic in sum) printf "kafka\ttopic %s\t%d\n", topic, sum[topic]}' || return
  in_store kafka kafka-consumer-groups --bootstrap-server localhost:29092 --describe --all-groups 2>/dev/null |
    awk '$4 ~ /^[0-9]+$/ {sum[$1] += $4} END {for (group in sum) printf "kafka\tgroup %s\t%d\n", group, sum[group]}'
}

# Objects and bytes, by bucket.
count_minio() {
  # shellcheck disable=SC2016 # the container's shell expands it
  in_store minio bash -c '
    set -euo pipefail
    minio-client alias set counts http://localhost:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null
    for bucket in $(minio-client ls --json counts | sed -n "s/.*\"key\":\"\([^\"\/]*\).*/\1/p"); do
      minio-client ls --recursive --json "counts/$bucket" | sed -n "s/.*\"size\":\([0-9]*\).*/$bucket \1/p"
    done' |
    awk '{objects[$1] += 1; bytes[$1] += $2}
      END {for (b in objects) printf "minio\tobjects in %s\t%d\nminio\tbytes in %s\t%d\n", b, objects[b], b, bytes[b]}'
}

# Rows, by table of every database.
count_postgres() {
  local database
  for database in $(in_store postgres psql -h /tmp -U postgres -Atc 'select datname from pg_database where not datistemplate'); do
    in_store postgres psql -h /tmp -U postgres --no-psqlrc -At --field-separator $'\t' "$database" --command "
      select 'postgres', '$database.' || table_schema || '.' || table_name, (xpath('/row/count/text()', query_to_xml(
        format('select count(*) from %I.%I', table_schema, table_name), false, true, '')))[1]
      from information_schema.tables
      where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')" || return
  done
}

# Keys that don't expire: the others may have when the same data is counted again.
count_redis() {
  # shellcheck disable=SC2016 # the container's shell expands it
  in_store redis sh -c 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli --no-auth-warning -e info keyspace' |
    sed -nE 's/^(db[0-9]+):keys=([0-9]+),expires=([0-9]+).*/\1 \2 \3/p' |
    awk '{printf "redis\tkeys of %s without expiry\t%d\n", $1, $2 - $3}'
}

# Rows, by table of the lakehouse. The client complains of the terminal that it lacks.
count_trino() {
  local query
  query="$(in_store trino trino --output-format TSV --execute "
    select 'select ''trino'', ''' || table_schema || '.' || table_name || ''', count(*) from \"' || table_schema || '\".\"' || table_name || '\"'
    from information_schema.tables where table_type = 'BASE TABLE' and table_schema in ('bronze', 'silver', 'gold')" 2>/dev/null)" || return
  [[ -n "$query" ]] || return 0
  in_store trino trino --output-format TSV --execute "${query//$'\n'/ union all }" 2>/dev/null
}

# counts: of the stores that run; a store that does not answer is left out with a warning.
counts() {
  local store running lines
  running="$(docker compose ps --services --status running)"
  for store in $(stores); do
    grep -qx "$store" <<<"$running" || continue
    say "  $store"
    if lines="$("count_$store")"; then
      [[ -z "$lines" ]] || printf '%s\n' "$lines"
    else
      warn "$store does not answer, so it is not counted: docker compose logs $store"
    fi
  done | LC_ALL=C sort
}

#!/usr/bin/env bash
# One archive for a bug report in reports/: versions, settings without secrets, states, and the last hour of logs and
# metrics. Nothing is changed, and what does not answer is left out with a note. Secret values are replaced by the names
# of their settings wherever they are.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/versions.sh"
source "$(dirname "${BASH_SOURCE[0]}")/hide_secrets.sh"

MINUTES_BACK=60
# Of each log its newest part, so that the archive can be sent.
LOG_BYTES=20000000

umask 077
name="support-$(date -u +%Y%m%dT%H%M%SZ)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
folder="$scratch/$name"
mkdir -p "$folder/logs" "$folder/metrics" reports

# An engine or a service that hangs is left out.
docker() { timeout --foreground 60 docker "$@" </dev/null; }
in_database() { docker compose exec --no-TTY postgres psql -h /tmp -U postgres --no-psqlrc "$1" --command "$2"; }
in_prometheus() { docker compose exec --no-TTY prometheus curl -fsS "http://localhost:9090/api/v1/$1" "${@:2}"; }

# collect FILE COMMAND...: what the command prints; why it failed if it did.
collect() {
  local file="$folder/$1" status=0
  shift
  "$@" >"$file" 2>"$scratch/errors" || status=$?
  if ((status != 0)); then
    printf '%s: exit code %d: %s\n' "$*" "$status" "$(tail -n 3 "$scratch/errors" | paste -sd ' ')" >>"$folder/missing.txt"
  fi
}

about_the_release() {
  {
    printf 'commit %s\n' "$(release)"
    versions
    printf 'bash %s\nsystem %s\n' "$BASH_VERSION" "$(uname -srm)"
  } >"$folder/versions.txt"
  settings_without_secrets >"$folder/settings.txt"
  collect edits.txt git status --short
  collect images.txt docker image ls --no-trunc --filter label=fraud-platform --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedAt}} {{.Size}}'
}

about_the_machine() {
  collect machine.txt eval 'uptime; getconf _NPROCESSORS_ONLN; head -n 3 /proc/meminfo; df -h; docker system df'
  collect engine.txt docker info
}

# A container as the engine sees it; never its environment, which has the secrets.
STATE='{{.Name}} {{.State.Status}} health={{if .State.Health}}{{.State.Health.Status}}{{end}} restarts={{.RestartCount}} exit={{.State.ExitCode}} oom={{.State.OOMKilled}} started={{.State.StartedAt}} memory={{.HostConfig.Memory}} image={{.Image}}'
HEALTH='{{.Name}}{{if .State.Health}}{{range .State.Health.Log}}
  {{.Start}} exit={{.ExitCode}} {{.Output}}{{end}}{{end}}'

about_the_services() {
  collect services.txt docker compose ps --all
  ((${#containers[@]} > 0)) || return 0
  collect containers.txt docker inspect --format "$STATE" "${containers[@]}"
  collect health.txt docker inspect --format "$HEALTH" "${containers[@]}"
  collect usage.txt docker stats --no-stream "${containers[@]}"
  collect lag.txt docker compose exec --no-TTY kafka kafka-consumer-groups --bootstrap-server localhost:29092 --describe --all-groups
  collect topics.txt docker compose exec --no-TTY kafka kafka-get-offsets --bootstrap-server localhost:29092
  collect pipeline.txt in_database airflow 'select dag_id, run_type, state, start_date, end_date from dag_run order by start_date desc nulls last limit 40'
  collect models.txt in_database mlflow 'select name, version, current_stage, status, creation_time from model_versions order by creation_time desc limit 20'
  collect tables.txt in_database fraud 'select relname, n_live_tup, pg_size_pretty(pg_total_relation_size(relid)) from pg_stat_user_tables order by relid'
}

log_of() { docker logs --timestamps --since "${MINUTES_BACK}m" "$1" 2>&1 | tail -c "$LOG_BYTES"; }

logs() {
  local container
  for container in "${containers[@]}"; do collect "logs/$container.log" log_of "$container"; done
}

# Every series of the last hour, job by job: Prometheus has little memory.
metrics() {
  local job now
  collect metrics/targets.json in_prometheus targets
  collect metrics/rules.json in_prometheus rules
  collect metrics/jobs.json in_prometheus label/job/values
  now="$(date +%s)"
  for job in $(grep -o '"data":\[[^]]*\]' "$folder/metrics/jobs.json" | sed 's/^"data"://' | tr -d '[]"' | tr ',' ' '); do
    collect "metrics/$job.json" in_prometheus query_range --get --data-urlencode "query={job=\"$job\"}" \
      --data-urlencode "start=$((now - 60 * MINUTES_BACK))" --data-urlencode "end=$now" --data-urlencode step=60
  done
}

# A secret that can't be hidden ends it before anything is collected.
read_values
secrets="$(secret_forms)" || exit 1
say "collecting versions, settings and states"
mapfile -t containers < <(docker compose ps --all --format '{{.Name}}' 2>/dev/null | sort)
about_the_release
about_the_machine
about_the_services
say "collecting $MINUTES_BACK minutes of logs and metrics"
logs
metrics
say "replacing secrets by their names"
hide_secrets "$folder" "$secrets"
tar -C "$scratch" -czf "reports/$name.tar.gz" "$name"
[[ ! -f "$folder/missing.txt" ]] || warn "not all of it answered; missing.txt in the archive says what did not"
say "reports/$name.tar.gz ($(du -h "reports/$name.tar.gz" | cut -f 1)): look through it before you share it, since logs may name users and payments"

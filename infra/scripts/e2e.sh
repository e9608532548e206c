#!/usr/bin/env bash
# The whole stack end to end, as a user starts it, on a project, volumes and ports of its own: real data through
# everything, drills in short form, then taken down. Leaves reports/e2e.md with what was checked and how long it took.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"
source "$(dirname "${BASH_SOURCE[0]}")/counts.sh"

timings=()
# timed WHAT COMMAND...: runs it and notes how long it took.
timed() {
  local what="$1" started="$SECONDS"
  shift
  say "e2e: $what"
  "$@"
  timings+=("| $what | $((SECONDS - started)) s |")
}

own_stack fraud-platform-e2e
# The engine forgets that a container ran out of memory when it restarts it, so its events are recorded from the start.
mkdir -p reports
docker events --filter event=oom --format '{{json .}}' >reports/e2e-oom.log &
oom_watch=$!
trap 'end_of_stack; kill "$oom_watch" 2>/dev/null || true' EXIT
# A small world with enough matured payments for a model, whose clock takes three hours to reach the present; bad messages
# of every kind among the good ones.
export SIM_USERS=1500 BACKFILL_DAYS=60 RUNWAY_DAYS=400 PRODUCER_TPS=100 INVALID_RATE=0.02
# A tenth of the default world's frauds teach a model less.
export TRAINING_MINIMUM_AUC=0.8
# Choosing among models has tests of its own.
export TRAINING_MODEL=hist_gradient_boosting
timed "make up" make --no-print-directory up
timed "make replay, the example file" make --no-print-directory replay \
  FILE=phase1-ingestion/examples/payments.csv MAP=phase1-ingestion/examples/payments.yml
# A name that no shell and no volume may take apart.
odd_name="reports/it's 12:30; o'clock.csv"
cp phase1-ingestion/examples/payments.csv "$odd_name"
timed "make replay, a dry run" make --no-print-directory replay FILE="$odd_name" MAP=phase1-ingestion/examples/payments.yml CHECK=1
timed "make dlq-show" make --no-print-directory dlq-show LAST=3
timed "make dlq-redrive, a dry run" make --no-print-directory dlq-redrive ALL=1
timed "make kafka-lag" make --no-print-directory kafka-lag
build_test_images ingestion spark airflow fraud-api kafka-exporter
# checks IMAGE WHAT: the checks and drills of a phase or of the rules, in the image that has what they need.
checks() { run_in_stack "$1" python3 -m pytest "infra/e2e/test_$2.py" -vv --durations=0 --capture=no | tee "reports/e2e-$2.log"; }
timed "checks of phase 1" checks ingestion-test phase1
timed "checks and drills of phases 1 and 2" checks spark-test phase2
docker compose --progress quiet start producer
# Every run of the pipeline tests all the data; this is the command.
timed "make dbt-test" make --no-print-directory dbt-test SELECT=mart_hourly_metrics
timed "checks and drills of phase 3" checks airflow-test phase3
# From here on with a wave of card testing, which the alert on the fraud rate must see in the end.
FRAUD_BURST=1 docker compose --progress quiet up --detach --no-deps producer
timed "make redis-features" make --no-print-directory redis-features
timed "checks and drills of phase 4" checks fraud-api-test phase4
timed "checks of rules" checks fraud-api-test rules
# After the drills, since the API's counters restart with it.
timed "make predict-test" make --no-print-directory predict-test
timed "make ml-models" make --no-print-directory ml-models
# Every page of the table of addresses, at the address of the table.
pages_answer() {
  local setting path
  while read -r setting path; do
    curl -fsSL --max-time 30 --output /dev/null "http://localhost:${!setting}$path" ||
      die "$setting: http://localhost:${!setting}$path does not answer"
  done <<'EOF'
SCHEMA_REGISTRY_PORT /subjects
MINIO_CONSOLE_PORT /
SPARK_MASTER_PORT /
TRINO_PORT /ui/
AIRFLOW_PORT /
MLFLOW_PORT /
API_PORT /docs
PROMETHEUS_PORT /
ALERTMANAGER_PORT /
SUPERSET_PORT /login/
EOF
}
timed "every page answers" pages_answer
docker compose --progress quiet start producer
# Drift has something to say once 500 live payments were looked at.
panels_filled() {
  local end=$((SECONDS + 600))
  until run_in_stack kafka-exporter-test python3 -m source.live phase5-analytics/grafana/dashboards http://prometheus:9090 >reports/e2e-panels.log; do
    ((SECONDS < end)) || die "panels without data:
$(<reports/e2e-panels.log)"
    sleep 10
  done
  cat reports/e2e-panels.log
}
timed "no panel of the dashboards is empty" panels_filled
timed "checks and drills of phase 5" checks fraud-api-test phase5
# As other machines would reach the API: with keys, by TLS. Nothing above has a key.
closed_api() {
  local pem="$ROOT/reports/e2e-tls.pem" end=$((SECONDS + 90))
  docker run --rm "$(image schema-registry)" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout - -out - >"$pem" 2>reports/e2e-tls.log
  chmod a+r "$pem"
  export API_KEY=a-new-key,the-old-key API_RATE_LIMIT=1000 TLS_CERTIFICATE="$pem" TLS_KEY="$pem"
  docker compose --progress quiet up --detach --no-deps --wait --wait-timeout 120 fraud-api tls-proxy
  make --no-print-directory ports | tee reports/e2e-ports.md
  make --no-print-directory predict-test
  local key
  for key in a-new-key the-old-key; do
    curl -fsS --cacert "$pem" --header "X-API-Key: $key" --output /dev/null "https://localhost:$API_TLS_PORT/ready" ||
      die "the API refuses a valid key"
  done
  # A counter that the API has only now: Prometheus has read it, so it has a key that fits.
  until docker compose exec --no-TTY prometheus promtool query instant http://localhost:9090 \
    'fraud_rate_limited_total{key="2"}' | grep -q fraud_rate_limited; do
    ((SECONDS < end)) || die "Prometheus does not read the metrics of an API with keys"
    sleep 2
  done
}
timed "the API with keys and TLS, and every port without" closed_api
# Of this very stack: the log of every container, the metrics of the API, and none of the random secrets.
support_archive_is_complete() {
  local archive folder container name
  archive="$(find reports -name 'support-*.tar.gz' | sort | tail -n 1)" folder="$(mktemp -d)"
  tar -C "$folder" --strip-components 1 -xzf "$archive"
  [[ ! -f "$folder/missing.txt" ]] || die "$archive lacks what did not answer: $(<"$folder/missing.txt")"
  for container in $(docker compose ps --all --format '{{.Name}}'); do
    [[ -f "$folder/logs/$container.log" ]] || die "$archive lacks the log of $container"
  done
  grep -q fraud_predictions_total "$folder/metrics/fraud-api.json" || die "$archive lacks the metrics of the API"
  while read -r name; do
    ! grep -rqF -- "${!name}" "$folder" || die "$name is in $archive"
  done < <(sed -n 's/=insecure-dev-default$//p' .env.example)
  rm -r "$folder" "$archive"
}
timed "make support" make --no-print-directory support
timed "its archive is complete and has no secret" support_archive_is_complete
# The stack is done; what is stopped here is not started again by make backup.
mapfile -t others < <(docker compose ps --services --status running | grep -vxF "$(stores)")
timed "everything but the stores stopped" docker compose --progress quiet stop "${others[@]}"
rm -rf reports/e2e-backup
timed "make backup" make --no-print-directory backup TO=reports/e2e-backup
timed "make restore-drill" make --no-print-directory restore-drill FROM=reports/e2e-backup
rm -rf reports/e2e-backup

{
  printf 'End to end, %s, on %s cores\n\n| step | took |\n|---|---|\n' "$(date -u +%FT%TZ)" "$(getconf _NPROCESSORS_ONLN)"
  printf '%s\n' "${timings[@]}"
  # shellcheck disable=SC2016 # the back quotes are Markdown
  printf '\n```\n%s\n```\n' "$(grep -hE '^[|]|PASSED|s call| passed' reports/e2e-phase*.log reports/e2e-rules.log reports/e2e-ports.md)"
} >reports/e2e.md
say "e2e: everything holds; report in reports/e2e.md"

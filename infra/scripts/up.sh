#!/usr/bin/env bash
# up.sh SERVICE...: from whatever this machine has to these services healthy, and the table of their addresses.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

took=()
# step WHAT COMMAND...: runs it and notes how long it took, for the line at the end.
step() {
  local what="$1" started="$SECONDS"
  shift
  "$@"
  took+=("$what $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s")
}

infra/scripts/env.sh
infra/docker/tidy.sh
infra/scripts/doctor.sh
step engine infra/docker/engine.sh
images=("$@")
# No service runs it; the first model does.
[[ " $* " != *" fraud-api "* ]] || images+=(training)
if [[ " $* " == *" trino "* ]] && ! docker image inspect "$(image trino)" >/dev/null 2>&1; then
  say "everything is built once, about 10 minutes on two cores; then 15 to 25 more for history, tables, a first model and dashboards"
fi
step images infra/docker/build.sh "${images[@]}"

# Images that can't be built from packages: taken if they are here or can be pulled, else left out.
services=("$@")
optional() {
  local service="$1" setting="$2" reference
  reference="$(env_value "$setting")"
  if docker image inspect "$reference" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$reference" >/dev/null 2>&1; then
    services+=("$service")
  else
    warn "$service is left out: no registry gives $reference. Load it (docker load) or set $setting in .env, then run the same command again."
  fi
}
optional kafka-ui KAFKA_UI_IMAGE
[[ " $* " != *" prometheus "* ]] || optional grafana GRAFANA_IMAGE

start() {
  say "starting $*"
  docker compose up --detach --wait --wait-timeout 600 "$@" || {
    docker compose ps --all
    die "not everything came up; look at the logs of what is not healthy: docker compose logs <service>"
  }
}
# These start last: the history needs no scores, and the features of its end come from Bronze faster than from Kafka.
# Prometheus too: that they are not there yet is no alert. Superset has nothing to show before.
first=() last=()
for service in "${services[@]}"; do
  case "$service" in
  scorer | feature-stream | prometheus | grafana | superset) last+=("$service") ;;
  *) first+=("$service") ;;
  esac
done
step services start "${first[@]}"
if [[ " ${services[*]} " == *" producer "* ]]; then
  # Draws nothing where the history is complete already: it is sent once per stack.
  step history docker compose exec --no-TTY producer ingestion progress --metrics-url http://localhost:9400/metrics
fi
if [[ " ${services[*]} " == *" airflow-scheduler "* ]]; then
  step tables infra/scripts/first_pipeline.sh
fi
if [[ " ${services[*]} " == *" fraud-api "* ]]; then
  step model infra/scripts/first_model.sh
fi
((${#last[@]} == 0)) || step "the rest" start "${last[@]}"
[[ " ${services[*]} " != *" feature-stream "* ]] || step features infra/scripts/stream_features.sh
infra/scripts/addresses.sh
say "up after $((SECONDS / 60)) min $((SECONDS % 60)) s:$(printf ' %s,' "${took[@]}" | sed 's/,$//')"

#!/usr/bin/env bash
# Sourced by up.sh: the steps of a start. They read and extend the array `services`.

# These start last: the history needs no scores, and the features of its end come from Bronze faster than from Kafka. That
# they are not there yet must not look like an alert, so Prometheus starts last, too; Superset has nothing to show before.
LAST=(scorer feature-stream prometheus grafana superset)

took=()
minutes() { printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); }

# step NAME COMMAND...: runs it, and notes for the last line how long it took if that was noticeable.
step() {
  local name="$1" started="$SECONDS"
  shift
  "$@"
  ((SECONDS - started < 2)) || took+=("$name $(minutes $((SECONDS - started)))")
}

has() { [[ " ${services[*]} " == *" $1 "* ]]; }

build_images() {
  local -a images=("${services[@]}")
  # Not a service that runs; the first model is made by it.
  if has fraud-api; then images+=(training); fi
  if has trino && ! docker image inspect "$(image trino)" >/dev/null 2>&1; then
    say "everything is built once, about 10 minutes on two cores; then 10 to 25 more for history, tables, a first model and dashboards"
  fi
  infra/docker/build.sh "${images[@]}"
}

# Images that can't be built from packages: taken if they are here or can be pulled, else left out.
add_pulled_services() {
  add_if_available kafka-ui KAFKA_UI_IMAGE
  if has prometheus; then add_if_available grafana GRAFANA_IMAGE; fi
}

add_if_available() {
  local service="$1" setting="$2" reference
  reference="$(docker compose config "$service" | sed -n 's/^    image: //p' | head -n 1)"
  if docker image inspect "$reference" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$reference" >/dev/null 2>&1; then
    services+=("$service")
  else
    warn "$service is left out: no registry has $reference. Load it (docker load) or set $setting in .env, then run the same command again"
  fi
}

# split_services: prints the services that start first, or with `last` those that start last.
split_services() {
  local service
  for service in "${services[@]}"; do
    if [[ " ${LAST[*]} " == *" $service "* ]]; then
      [[ "$1" != last ]] || printf '%s\n' "$service"
    else
      [[ "$1" != first ]] || printf '%s\n' "$service"
    fi
  done
}

start_first() {
  local -a first
  # Grafana reads its files from the checkout, as a user of its own.
  chmod -R a+rX phase5-analytics/grafana/dashboards phase5-analytics/grafana/provisioning
  mapfile -t first < <(split_services first)
  start "${first[@]}"
}

start_last() {
  local -a last
  mapfile -t last < <(split_services last)
  ((${#last[@]} == 0)) || start "${last[@]}"
}

start() {
  say "starting $*"
  docker compose up --detach --wait --wait-timeout 600 "$@" || {
    docker compose ps --all
    die "not everything started; look at the logs of what is not healthy: docker compose logs <service>"
  }
}

# Draws nothing if the history is complete already: it is sent once per stack.
wait_for_history() {
  docker compose exec --no-TTY producer ingestion progress --metrics-url http://localhost:9400/metrics
}

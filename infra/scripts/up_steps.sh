#!/usr/bin/env bash
# Sourced by up.sh: the steps of a start. They read and extend the array `services`.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"

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

# TLS in front of the API is optional, too.
add_tls_proxy() {
  if has fraud-api && [[ -n "$(env_value TLS_CERTIFICATE)" ]]; then services+=(tls-proxy); fi
}

has() { [[ " ${services[*]} " == *" $1 "* ]]; }

build_images() {
  if has trino && ! docker image inspect "$(image trino)" >/dev/null 2>&1; then
    say "everything is built once, about 10 minutes on two cores; then 10 to 25 more for history, tables, a first model and dashboards"
  fi
  infra/docker/build.sh "${services[@]}"
}

# optional_services: those whose images can't be built from packages.
optional_services() {
  echo kafka-ui
  if has prometheus; then echo grafana; fi
}

# Ports of services that will not be started may be in use.
check_machine() {
  local -a optional
  mapfile -t optional < <(optional_services)
  infra/scripts/doctor.sh "${services[@]}" "${optional[@]}"
}

# An optional service is started if its image is here or can be pulled.
add_optional_services() {
  local service reference setting
  local -a optional
  mapfile -t optional < <(optional_services)
  while read -r service reference _; do
    if docker image inspect "$reference" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$reference" >/dev/null 2>&1; then
      services+=("$service")
    else
      setting="$(tr 'a-z-' 'A-Z_' <<<"$service")_IMAGE"
      warn "$service is left out: no registry has $reference. Load it (docker load) or set $setting in .env, then run the same command again"
    fi
  done < <(images_of "${optional[@]}")
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

# Once, with its message, instead of again and again in a container's log.
prepare_tls_proxy() {
  if has tls-proxy; then
    docker compose run --rm --no-deps --no-TTY tls-proxy start-tls-proxy --check ||
      die "the API can't be reached by TLS for the reason above; correct TLS_CERTIFICATE and TLS_KEY in .env"
  else
    # Of a start with TLS.
    docker compose rm --stop --force tls-proxy >/dev/null 2>&1 || true
  fi
}

start_first() {
  local -a first
  prepare_tls_proxy
  mapfile -t first < <(split_services first)
  start "${first[@]}"
}

# Grafana reads them from the checkout, as a user of its own, whatever umask the checkout was made with.
make_grafana_files_readable() {
  chmod -R a+rX phase5-analytics/grafana/dashboards phase5-analytics/grafana/provisioning 2>/dev/null ||
    warn "phase5-analytics/grafana belongs to another user; Grafana can read it only if everyone may"
}

start_last() {
  local -a last
  make_grafana_files_readable
  mapfile -t last < <(split_services last)
  ((${#last[@]} == 0)) || start "${last[@]}"
  if has grafana; then set_grafana_password; fi
}

# Grafana reads the setting on a new volume only, so the old password would stay valid. Its output names the password.
set_grafana_password() {
  # shellcheck disable=SC2016 # for the shell in the container
  docker compose exec --no-TTY grafana sh -c 'grafana cli admin reset-admin-password "$GF_SECURITY_ADMIN_PASSWORD"' \
    >/dev/null 2>&1 ||
    warn "Grafana may still have an older password than GRAFANA_ADMIN_PASSWORD; docs/security.md says how to set it"
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

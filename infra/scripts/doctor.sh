#!/usr/bin/env bash
# doctor.sh [SERVICE...]: looks at this machine and says what to do about anything in the way. Ports are checked for these
# services only, or for all. Exit code 1 if something must be done.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/memory_limits.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reachable.sh"

problems=0
ok() { printf '  \033[32mok\033[0m       %-16s %s\n' "$1" "$2"; }
note() { printf '  \033[33mnote\033[0m     %-16s %s\n' "$1" "$2"; }
problem() {
  printf '  \033[31mproblem\033[0m  %-16s %s\n' "$1" "$2"
  problems=$((problems + 1))
}

# at_least NAME VALUE MINIMUM UNIT REMEDY
at_least() { if (($2 >= $3)); then ok "$1" "$2 $4"; else note "$1" "$2 $4; $3 are recommended: $5"; fi; }

check_hardware() {
  local memory_kib disk_gib
  at_least cores "$(getconf _NPROCESSORS_ONLN)" 2 cores "builds and the whole stack will be slow"
  if [[ -r /proc/meminfo ]]; then
    memory_kib="$(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
    at_least memory $((memory_kib / 1048576)) 16 GiB "run the first phases only (make phase1-up)"
  fi
  disk_gib="$(docker_disk_gib)"
  if [[ -z "$disk_gib" ]]; then
    note disk "the engine keeps its data on another disk ($(docker_host)); $DISK_GIB_WANTED GiB free there are recommended"
  elif ((disk_gib < 10)); then
    problem disk "$disk_gib GiB free where Docker keeps its data; free some: docker system prune"
  else
    at_least disk "$disk_gib" "$DISK_GIB_WANTED" "GiB free" "docker system prune frees what is not in use"
  fi
}

check_engine() {
  if ! docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
      note engine "none answers; make up installs it from the distribution's packages and starts it"
    else
      problem engine "none answers; start Docker, or install Docker Engine with the Compose and Buildx plugins"
    fi
    return
  fi
  ok engine "Docker $(docker version --format '{{.Server.Version}}')"
  if docker compose version >/dev/null 2>&1; then
    ok compose "Compose $(docker compose version --short)"
  else
    note compose "Compose v2 is missing; make up installs it (as root on Debian or Ubuntu)"
  fi
  if timeout 15 docker manifest inspect debian:trixie-slim >/dev/null 2>&1; then
    ok registry "an image registry answers"
  else
    note registry "no image registry answers; our images are built from packages all the same, Kafka UI and Grafana are left out unless their images are loaded (docker load)"
  fi
}

# A port that one of our own containers publishes is not in the way.
check_ports() {
  local ours name port busy=0
  ours=" $(docker compose ps --quiet 2>/dev/null | xargs -r docker inspect --format \
    '{{range .NetworkSettings.Ports}}{{range .}}{{.HostPort}} {{end}}{{end}}' 2>/dev/null | tr '\n' ' ' || true)"
  for name in $(ports_of "$@"); do
    port="$(env_value "$name")"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && [[ "$ours" != *" $port "* ]]; then
      problem "port $port" "in use by another program; stop it, or set $name to another port in .env"
      busy=1
    fi
  done
  ((busy)) || ok ports "all free or ours"
}

check_addresses() {
  local complaint open
  while read -r complaint; do problem addresses "$complaint"; done < <(bind_complaints)
  complaint="$(kafka_address_complaint)"
  if [[ -n "$complaint" ]]; then note addresses "$complaint"; else ok addresses "Kafka is known by the address that it listens on"; fi
  open="$(open_settings | paste -sd ' ')"
  [[ -z "$open" ]] || note access "$open lets other machines in; docs/security.md says what they then reach without a login"
}

# Passwords that everybody knows are fine as long as no other machine can try them.
check_secrets() {
  local open complaint
  open="$(open_settings | paste -sd ' ')"
  if [[ -z "$open" ]]; then
    ok access "from this machine only"
    return
  fi
  while read -r complaint; do
    problem secrets "$complaint, and $open lets other machines in; change it in .env (openssl rand -hex 24 makes one)"
  done < <(weak_secrets)
}

check_tls() {
  local complaint
  while read -r complaint; do problem tls "$complaint"; done < <(tls_complaint)
}

check_limits() {
  local complaint found=0
  while IFS= read -r complaint; do
    problem "memory limits" "$complaint"
    found=1
  done < <(memory_complaints)
  ((found)) || ok "memory limits" "fit REDIS_MAXMEMORY, API_WORKERS and SPARK_EXECUTOR_MEMORY"
}

say "looking at this machine"
check_hardware
check_engine
check_addresses
check_secrets
check_tls
check_limits
check_ports "$@"
((problems == 0)) || die "$problems problem(s); see above what to do"

#!/usr/bin/env bash
# Sourced by every script: repository root, messages and the settings in .env.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$ROOT"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
warn() { printf '\033[33mwarning:\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# env_value NAME: the environment wins, then .env, then .env.example (Compose's own order).
env_value() {
  local name="$1" file line
  if [[ -n "${!name:-}" ]]; then
    printf '%s' "${!name}"
    return
  fi
  for file in "$ROOT/.env" "$ROOT/.env.example"; do
    [[ -f "$file" ]] || continue
    if line="$(grep -E "^${name}=" "$file" | tail -n 1)"; then
      printf '%s' "${line#*=}"
      return
    fi
  done
}

# image NAME: the full reference of one of our images.
image() { printf '%s/%s:%s' "$(env_value IMAGE_REGISTRY)" "$1" "$(env_value VERSION)"; }

# Building, the images and a few days of data want this much; below, earlier builds are tidied away.
# shellcheck disable=SC2034 # doctor and tidy read it
DISK_GIB_WANTED=30
# docker_disk_gib: what is free where Docker keeps its data, or will.
docker_disk_gib() {
  local path=/var/lib/docker
  until [[ -d "$path" ]]; do path="$(dirname "$path")"; done
  df -Pk "$path" | awk 'NR == 2 {print int($4 / 1048576)}'
}

# bronze_lag: how many messages Bronze has not read yet; nothing where Kafka does not answer just now.
bronze_lag() {
  docker compose exec --no-TTY kafka kafka-consumer-groups --bootstrap-server localhost:29092 --describe \
    --group bronze-writer 2>/dev/null | awk '$6 ~ /^[0-9]+$/ {sum += $6; seen = 1} END {if (seen) print sum}' || true
}

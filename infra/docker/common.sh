#!/usr/bin/env bash
# Sourced by every script: repository root, messages and the settings in .env.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "error: bash $BASH_VERSION is too old, 4.4 is needed; on macOS: brew install bash coreutils, and put them first in PATH" >&2
  exit 1
fi
if ! command -v timeout >/dev/null; then
  echo "error: the command timeout is missing; on macOS: brew install coreutils, and put its gnubin folder first in PATH" >&2
  exit 1
fi
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$ROOT"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
warn() { printf '\033[33mwarning:\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
export_renamed_settings

# image NAME: the full reference of one of our images, as in docker-compose.yml.
image() {
  local tag
  tag="$(env_value IMAGE_TAG)"
  printf '%s/%s:%s' "$(env_value IMAGE_REGISTRY)" "$1" "${tag:-local}"
}

# Building, the images and a few days of data want this much; below, earlier builds are tidied away.
# shellcheck disable=SC2034 # doctor and tidy read it
DISK_GIB_WANTED=30
# docker_disk_gib: what is free where Docker keeps its data, or will; nothing if that is not a disk of this machine.
docker_disk_gib() {
  local path=/var/lib/docker
  if docker info >/dev/null 2>&1; then
    path="$(docker info --format '{{.DockerRootDir}}')"
    [[ "$(docker_host)" == unix://* && -d "$path" ]] || return 0
  fi
  until [[ -d "$path" ]]; do path="$(dirname "$path")"; done
  df -Pk "$path" | awk 'NR == 2 {print int($4 / 1048576)}'
}

# docker_host: the address of the engine that the docker command uses.
docker_host() {
  local host="${DOCKER_HOST:-}"
  [[ -n "$host" ]] || host="$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)"
  printf '%s' "${host:-unix:///var/run/docker.sock}"
}

# docker_socket: the engine's socket, for containers that must reach the engine.
docker_socket() {
  local host
  host="$(docker_host)"
  [[ "$host" == unix://* ]] ||
    die "tests and drills mount the engine's socket, but the engine is at $host; use an engine on this machine"
  # Containers of Docker Desktop see the socket of its virtual machine, at the usual path.
  if [[ "$(docker info --format '{{.OperatingSystem}}' 2>/dev/null)" == "Docker Desktop" ]]; then
    printf '/var/run/docker.sock'
  else
    printf '%s' "${host#unix://}"
  fi
}

# bronze_lag: how many messages the last batches of Bronze left unread; nothing until both streams have said so.
bronze_lag() {
  docker compose exec --no-TTY spark-streaming curl -fsS localhost:9401/metrics 2>/dev/null |
    awk '/^bronze_lag_records[{]/ {sum += $2; streams += 1} END {if (streams == 2) printf "%d", sum}' || true
}

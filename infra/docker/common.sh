#!/usr/bin/env bash
# Sourced by every script: repository root, messages and the settings in .env.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "error: bash $BASH_VERSION is too old, 4.4 is needed; on macOS: brew install bash coreutils, and put them first in PATH" >&2
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

# image NAME: the full reference of one of our images.
image() { printf '%s/%s:%s' "$(env_value IMAGE_REGISTRY)" "$1" "${IMAGE_TAG:-local}"; }

# project_name: what Compose calls the stack.
project_name() { docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p'; }

# Building, the images and a few days of data want this much; below, earlier builds are tidied away.
# shellcheck disable=SC2034 # doctor and tidy read it
DISK_GIB_WANTED=30
# docker_disk_gib: what is free where Docker keeps its data, or will. An engine in a virtual machine or elsewhere has a
# disk of its own, which can't be seen from here; then it is this folder's.
docker_disk_gib() {
  local path
  path="$(docker info --format '{{.DockerRootDir}}' 2>/dev/null || true)"
  path="${path:-/var/lib/docker}"
  until [[ -d "$path" && -n "$path" ]]; do path="$(dirname "$path")"; done
  df -Pk "$path" | awk 'NR == 2 {print int($4 / 1048576)}'
}

# docker_socket: the engine's socket on this machine, for containers that must reach it.
docker_socket() {
  local host="${DOCKER_HOST:-}"
  # Containers of Docker Desktop see the socket of its virtual machine, at the usual path.
  [[ -n "$host" || "$(docker info --format '{{.OperatingSystem}}' 2>/dev/null)" == "Docker Desktop" ]] ||
    host="$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)"
  case "$host" in
  unix://*) printf '%s' "${host#unix://}" ;;
  "") printf '/var/run/docker.sock' ;;
  *) die "tests and drills mount the engine's socket, but the engine is at $host; use an engine on this machine" ;;
  esac
}

# bronze_lag: how many messages the last batches of Bronze left unread; nothing until both streams have said so.
bronze_lag() {
  docker compose exec --no-TTY spark-streaming curl -fsS localhost:9401/metrics 2>/dev/null |
    awk '/^bronze_lag_records[{]/ {sum += $2; streams += 1} END {if (streams == 2) printf "%d", sum}' || true
}

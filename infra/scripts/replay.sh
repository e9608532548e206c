#!/usr/bin/env bash
# Sends a file of this machine, FILE, through the ingestion container. MAP is its column map, a file or the name of a
# shipped one; with CHECK nothing is sent, and START is the first row to send.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

file="${FILE:-}" map="${MAP:-}"
[[ -n "$file" ]] || die "which file? make replay FILE=transactions.csv [MAP=columns.yml]; an example: FILE=phase1-ingestion/examples/payments.csv MAP=phase1-ingestion/examples/payments.yml"
[[ -f "$file" ]] || die "FILE=$file: no such file"
[[ -z "$map" || -f "$map" || "$map" =~ ^[a-z-]+$ ]] || die "MAP=$map: no such file"
if [[ -n "${CHECK:-}" ]]; then
  # People look at their file before they start anything.
  infra/scripts/env.sh
  infra/docker/engine.sh
  docker image inspect "$(image ingestion)" >/dev/null 2>&1 || infra/docker/build.sh ingestion-init
else
  docker compose ps --services --status running | grep -qx kafka || die "Kafka doesn't run; start it: make phase1-up"
fi

# As the user of this shell, who can read the files; root without privileges can't read those of others.
arguments=(--user "$(id -u):$(id -g)")
[[ "$(docker info --format '{{.SecurityOptions}}')" != *rootless* ]] || arguments=(--user 0)
links="$(mktemp -d)"
trap 'rm -rf "$links"' EXIT
# mount_file FILE FOLDER: notes in `mounted` where the container has it. A colon would end the path, so a link has none.
mount_file() {
  local source
  source="$(realpath "$1")"
  mounted="/$2/$(basename "$1" | tr ':' '_')"
  if [[ "$source" == *:* ]]; then
    ln -s "$source" "$links/$2"
    source="$links/$2"
  fi
  arguments+=(--volume "$source:$mounted:ro")
}
mount_file "$file" data
command=(ingestion replay "$mounted")
if [[ -f "$map" ]]; then
  mount_file "$map" map
  command+=(--map "$mounted")
elif [[ -n "$map" ]]; then
  command+=(--map "$map")
fi
for name in FILE MAP CHECK START; do [[ -z "${!name:-}" ]] || arguments+=(--env "$name"); done
docker compose run --rm --no-deps "${arguments[@]}" ingestion-init "${command[@]}"

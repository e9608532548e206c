#!/usr/bin/env bash
# Sends a file of this machine, FILE, through the ingestion container; MAP is its column map.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

file="${FILE:-}" map="${MAP:-}"
[[ -n "$file" ]] || die "which file? make replay FILE=transactions.csv [MAP=columns.yml]; an example: FILE=phase1-ingestion/examples/payments.csv MAP=phase1-ingestion/examples/payments.yml"
[[ -f "$file" ]] || die "FILE=$file: no such file"
[[ -z "$map" || -f "$map" ]] || die "MAP=$map: no such file"
docker compose ps --services --status running | grep -qx kafka || die "Kafka doesn't run; start it: make phase1-up"

arguments=(--volume "$(realpath "$file"):/data/$(basename "$file"):ro")
command=(ingestion replay "/data/$(basename "$file")")
if [[ -n "$map" ]]; then
  arguments+=(--volume "$(realpath "$map"):/data/map/$(basename "$map"):ro")
  command+=(--map "/data/map/$(basename "$map")")
fi
docker compose run --rm --no-deps "${arguments[@]}" ingestion-init "${command[@]}"

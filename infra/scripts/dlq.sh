#!/usr/bin/env bash
# dlq.sh show | redrive: the dead letter tools. What a person chooses (LAST; REASON, STAGE, OFFSET, ALL, SET, FORCE, GO)
# goes into the container by environment, as it is.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

# ingestion COMMAND VARIABLE...: a command of the ingestion image with these variables of this shell, if they are set.
ingestion() {
  local name
  local -a variables=()
  for name in "${@:2}"; do [[ -z "${!name:-}" ]] || variables+=(--env "$name"); done
  docker compose run --rm --no-deps "${variables[@]}" ingestion-init ingestion "$1"
}

case "${1:-}" in
show) ingestion dlq-show LAST ;;
redrive) ingestion dlq-redrive REASON STAGE OFFSET ALL SET FORCE GO ;;
*) die "usage: dlq.sh show | redrive" ;;
esac

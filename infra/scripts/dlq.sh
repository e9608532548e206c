#!/usr/bin/env bash
# dlq.sh show | redrive: the dead letter tools, with LAST, REASON, OFFSET, ALL, SET and GO from the environment.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

ingestion() { docker compose run --rm --no-deps ingestion-init ingestion "$@"; }

case "${1:-}" in
show) ingestion dlq-show --last "${LAST:-10}" ;;
redrive)
  options=()
  [[ -z "${REASON:-}" ]] || options+=(--reason "$REASON")
  [[ -z "${OFFSET:-}" ]] || options+=(--offset "$OFFSET")
  [[ -z "${ALL:-}" ]] || options+=(--all)
  [[ -z "${SET:-}" ]] || options+=(--set "$SET")
  [[ -z "${GO:-}" ]] || options+=(--go)
  ingestion dlq-redrive "${options[@]}"
  ;;
*) die "usage: dlq.sh show | redrive" ;;
esac

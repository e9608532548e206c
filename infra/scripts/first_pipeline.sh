#!/usr/bin/env bash
# On a fresh stack: waits until Bronze has caught up with Kafka, then for the pipeline's first run, so that Gold exists.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

# The first batch of a long history takes minutes on a busy machine.
MINUTES_WITHOUT_PROGRESS=10
# Fewer messages behind than this are a few seconds of the live stream.
CAUGHT_UP=20000

first_run() { docker compose --progress quiet run --rm --no-deps --no-TTY airflow-init python -m lakehouse.first_run "$@"; }

wait_for_bronze() {
  local behind least="" moved_at="$SECONDS"
  while behind="$(bronze_lag)" && [[ -z "$behind" ]] || ((behind > CAUGHT_UP)); do
    # A job that dies and starts again reports the same lag each time.
    if [[ -n "$behind" ]] && { [[ -z "$least" ]] || ((behind < least)); }; then
      least="$behind" moved_at="$SECONDS"
    elif ((SECONDS - moved_at > MINUTES_WITHOUT_PROGRESS * 60)); then
      docker compose ps --all spark-streaming
      die "Bronze has made no progress for $MINUTES_WITHOUT_PROGRESS minutes; see docker compose logs spark-streaming, then run the same command again"
    fi
    say "Bronze: ${behind:-?} messages to catch up with"
    sleep 5
  done
}

if [[ "$(env_value SIMULATOR)" == off ]]; then
  say "the pipeline runs every 15 minutes, once there are transactions (make replay FILE=…)"
  first_run --no-wait
  exit
fi
wait_for_bronze
say "the pipeline's first run, if there was none yet: Silver and Gold"
first_run

#!/usr/bin/env bash
# On a fresh stack: waits until Bronze has caught up with Kafka, then for the pipeline's first run, so that Gold is there.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

first_run() { docker compose --progress quiet run --rm --no-deps --no-TTY airflow-init python -m lakehouse.first_run "$@"; }

if [[ "$(env_value SIMULATOR)" == off ]]; then
  say "the pipeline runs every 15 minutes, once there are transactions (make replay FILE=…)"
  first_run --no-wait
  exit
fi

behind="$(bronze_lag)"
while [[ -z "$behind" ]] || ((behind > 20000)); do
  say "Bronze: ${behind:-?} messages to catch up with"
  sleep 5
  behind="$(bronze_lag)"
done
say "the pipeline's first run, if there was none yet: Silver and Gold"
first_run

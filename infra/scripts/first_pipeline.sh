#!/usr/bin/env bash
# On a fresh stack: waits until Bronze has caught up with Kafka, then for the pipeline's first run, so that Gold exists.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

first_run() { docker compose --progress quiet run --rm --no-deps --no-TTY airflow-init python -m lakehouse.first_run "$@"; }

if [[ "$(env_value SIMULATOR)" == off ]]; then
  say "the pipeline runs every 15 minutes, once there are transactions (make replay FILE=…)"
  first_run --no-wait
  exit
fi
# The rest is a few seconds of the live stream.
if ! wait_for_bronze 20000 10; then
  docker compose ps --all spark-streaming
  die "Bronze has made no progress for 10 minutes; see docker compose logs spark-streaming, then run the same command again"
fi
say "the pipeline's first run, if there was none yet: Silver and Gold"
first_run

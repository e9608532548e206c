#!/usr/bin/env bash
# Waits until the feature stream follows Kafka: on a fresh stack, and after Redis was lost, it fills Redis first. Until then
# predictions use the pipeline's snapshots.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

health() { docker compose ps --all --format '{{.State}} {{.Health}}' feature-stream; }
metrics() { docker compose exec --no-TTY feature-stream curl -fsS localhost:9403/metrics 2>/dev/null || true; }

while read -r following total filled < <(metrics | awk '
  $1 == "feature_stream_running" {following = $2}
  $1 == "feature_stream_payments_to_fill" {total = $2}
  $1 == "feature_stream_filled_payments" {filled = $2}
  END {printf "%d %d %d\n", following, total, filled}'); do
  ((following == 0)) || exit 0
  [[ "$(health)" == running* && "$(health)" != *unhealthy ]] ||
    die "the feature stream does not run ($(health)); see docker compose logs feature-stream"
  if ((total == 0)); then
    say "features of the stream: counting the payments of the last month"
  else
    say "features of the stream: $filled of $total payments of the last month are in Redis"
  fi
  sleep 5
done

#!/usr/bin/env bash
# Writes the Grafana dashboards' JSON files from their code, in the image of phase 5's tests.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

infra/scripts/env.sh
infra/docker/engine.sh
infra/docker/build.sh
build_test_image kafka-exporter phase5-analytics/kafka_exporter/Dockerfile
docker run --rm --user "$(id -u):$(id -g)" --volume "$ROOT/phase5-analytics/grafana:/app/grafana" \
  "$(image kafka-exporter-test)" python3 -m source grafana/dashboards

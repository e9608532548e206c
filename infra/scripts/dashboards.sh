#!/usr/bin/env bash
# Writes the JSON of the Grafana dashboards from phase5-analytics/grafana/source, in the image of phase 5's tests.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

infra/scripts/env.sh
infra/docker/engine.sh
infra/docker/build.sh
build_test_images kafka-exporter
docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$ROOT/phase5-analytics/grafana:/grafana" \
  --env PYTHONPATH=/grafana "$(image kafka-exporter-test)" python3 -m source /grafana/dashboards

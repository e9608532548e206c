#!/usr/bin/env bash
# On the stack that runs: what the stream's features are worth beside those of snapshots, as labels come in.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

COMPOSE_PROJECT_NAME="$(docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')"
export COMPOSE_PROJECT_NAME
[[ -n "$(docker compose ps --quiet --status running feature-stream)" ]] || die "no feature stream runs; start it: make phase4-up"
build_test_images fraud-api
run_in_stack fraud-api-test python3 phase4-ml/bench/feature_quality.py "$@"

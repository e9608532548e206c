#!/usr/bin/env bash
# On the stack that runs: what features are worth. PARTS (groups live) chooses.
# groups: average precision without each group of features, and with it beside the base, on the training examples.
# live: that of the stream's features beside those of snapshots, on live payments, as labels come in.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

COMPOSE_PROJECT_NAME="$(docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')"
export COMPOSE_PROJECT_NAME
parts="${PARTS:-groups live}"

if [[ " $parts " == *" groups "* ]]; then
  build_test_images training
  run_in_stack training-test python3 phase4-ml/bench/feature_groups.py
fi
if [[ " $parts " == *" live "* ]]; then
  [[ -n "$(docker compose ps --quiet --status running feature-stream)" ]] || die "no feature stream runs; start it: make phase4-up"
  build_test_images fraud-api
  run_in_stack fraud-api-test python3 phase4-ml/bench/feature_quality.py "$@"
fi

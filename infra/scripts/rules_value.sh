#!/usr/bin/env bash
# What the starter rules find in simulated worlds, and what they add to a model there, without a stack: SEEDS="42 1",
# DAYS and USERS choose. TRAINING_… of the shell apply.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

read -ra seeds <<<"${SEEDS:-42}"
for name in "${!TRAINING_@}"; do checkout_options+=(--env "$name"); done
build_test_images training
run_on_checkout training-test python3 phase4-ml/bench/rule_value.py --seeds "${seeds[@]}" --days "${DAYS:-45}" \
  --users "${USERS:-20000}"

#!/usr/bin/env bash
# What the model reaches in simulated worlds, without a stack: SEEDS="42 1", DAYS, USERS, PROFILE (cards, terminal),
# PERMUTATIONS and FEATURE_GROUPS=1 (what each group of features is worth) choose. TRAINING_… of the shell apply.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

read -ra seeds <<<"${SEEDS:-42}"
for name in "${!TRAINING_@}"; do checkout_options+=(--env "$name"); done
build_test_images training
run_on_checkout training-test python3 phase4-ml/bench/world_quality.py --seeds "${seeds[@]}" --days "${DAYS:-45}" \
  --users "${USERS:-20000}" --profile "${PROFILE:-cards}" --permutations "${PERMUTATIONS:-0}" ${FEATURE_GROUPS:+--groups}

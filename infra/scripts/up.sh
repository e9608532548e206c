#!/usr/bin/env bash
# up.sh SERVICE...: from whatever this machine has to these services healthy, and the table of their addresses. Each step
# can be repeated; after a repair the same command continues.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/up_steps.sh"

services=("$@")

step settings infra/scripts/env.sh
add_tls_proxy
step disk infra/docker/tidy.sh
step machine check_machine
step engine infra/docker/engine.sh
step images build_images
step optional add_optional_services
step services start_first
if has producer; then step history wait_for_history; fi
if has airflow-scheduler; then step tables infra/scripts/first_pipeline.sh; fi
if has fraud-api; then step model infra/scripts/first_model.sh; fi
step "the rest" start_last
if has feature-stream; then step features infra/scripts/stream_features.sh; fi
infra/scripts/addresses.sh
say "up after $(minutes "$SECONDS"):$(printf ' %s,' "${took[@]}" | sed 's/,$//')"

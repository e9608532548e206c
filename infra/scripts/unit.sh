#!/usr/bin/env bash
# unit.sh [PYTEST ARGUMENTS...]: every test that needs no service, in one container without network or engine socket.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

[[ -z "${K:-}" ]] || set -- -k "$K" "$@"
infra/scripts/env.sh
infra/docker/engine.sh
build_unit_image
run_on_checkout unit run-unit-tests "$@"

#!/usr/bin/env bash
# test.sh PHASE: the tests of one phase, in a container on the network of a stack of their own, with real services.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

phase="$1"
shift
case "$phase" in
1) services=(kafka schema-registry) tested=ingestion dockerfile=phase1-ingestion/Dockerfile ;;
*) die "phase $phase has no tests" ;;
esac

own_stack fraud-platform-test
infra/docker/build.sh "${services[@]}" ingestion-init
build_test_image "$tested" "$dockerfile"
say "starting ${services[*]} for the tests"
docker compose up --detach --wait --wait-timeout 300 "${services[@]}"
docker compose run --rm ingestion-init
say "tests of phase $phase"
run_in_stack "$tested-test" pytest tests "$@"

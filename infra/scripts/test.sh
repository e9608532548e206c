#!/usr/bin/env bash
# test.sh PHASE: the tests of one phase, in a container on the network of a stack of their own, with real services.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

phase="$1"
shift
case "$phase" in
1)
  services=(kafka schema-registry)
  tested=ingestion dockerfile=phase1-ingestion/Dockerfile
  ;;
2)
  services=(kafka schema-registry minio spark-master spark-worker spark-streaming)
  tested=spark dockerfile=infra/images/spark/Dockerfile
  ;;
3)
  # The tests write Bronze themselves, and run dbt as the pipeline does.
  services=(minio trino)
  tested=airflow dockerfile=infra/images/airflow/Dockerfile
  ;;
*) die "phase $phase has no tests" ;;
esac

own_stack fraud-platform-test
infra/docker/build.sh "${services[@]}" ingestion-init
build_test_image "$tested" "$dockerfile"
say "starting ${services[*]} for the tests"
docker compose up --detach --wait --wait-timeout 300 "${services[@]}"
[[ "$phase" == 3 ]] || docker compose run --rm ingestion-init
say "tests of phase $phase"
run_in_stack "$tested-test" python3 -m pytest tests "$@" || {
  docker compose logs --tail 15
  die "tests of phase $phase failed; the services' last lines stand above"
}

#!/usr/bin/env bash
# test.sh PHASE: the tests of one phase, in a container on the network of a stack of their own, with real services.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

phase="$1"
shift
case "$phase" in
1)
  services=(kafka schema-registry)
  tested=ingestion dockerfile=phase1-ingestion/producer/Dockerfile
  ;;
2)
  services=(kafka schema-registry minio spark-master spark-worker spark-streaming)
  tested=spark dockerfile=infra/spark/Dockerfile
  ;;
3)
  # The tests write Bronze themselves, and run dbt as the pipeline does.
  services=(minio trino)
  tested=airflow dockerfile=phase3-transforms/airflow/Dockerfile
  ;;
4)
  # The tests write Gold themselves, and start the scorer that they kill.
  services=(kafka schema-registry minio trino postgres mlflow redis fraud-api)
  tested=fraud-api dockerfile=phase4-ml/serving/Dockerfile
  ;;
5)
  services=(kafka airflow-metrics kafka-exporter alertmanager prometheus)
  tested=kafka-exporter dockerfile=phase5-analytics/kafka_exporter/Dockerfile
  ;;
*) die "phase $phase has no tests" ;;
esac

own_stack fraud-platform-test
infra/docker/build.sh "${services[@]}" ingestion-init
build_test_image "$tested" "$dockerfile"
say "starting ${services[*]} for the tests"
docker compose up --detach --wait --wait-timeout 300 "${services[@]}"
[[ "$phase" == [35] ]] || docker compose run --rm ingestion-init
say "tests of phase $phase"
# tests IMAGE ARGUMENTS...: pytest in that image.
tests() {
  run_in_stack "$1-test" python3 -m pytest --durations=8 --durations-min=5 "${@:2}" || {
    docker compose logs --tail 15
    die "tests of phase $phase failed; the services' last lines stand above"
  }
}
if [[ "$phase" == 4 ]]; then
  build_test_image training phase4-ml/training/Dockerfile
  tests training tests/test_training.py "$@"
  tests "$tested" tests --ignore tests/test_training.py "$@"
else
  tests "$tested" tests "$@"
fi

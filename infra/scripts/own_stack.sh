#!/usr/bin/env bash
# Sourced by the scripts that test: a stack of their own beside the user's, and taken down at the end whatever happens.
set -euo pipefail

# own_stack PROJECT: own project name (so own containers, volumes, networks), ports shifted by 10,000 where not set.
own_stack() {
  local line name
  infra/scripts/env.sh
  infra/docker/engine.sh
  infra/docker/tidy.sh
  export COMPOSE_PROJECT_NAME="$1"
  while IFS= read -r line; do
    name="${line%%=*}"
    export "$name=$((${line#*=} + 10000))"
  done < <(grep -E '^[A-Z_]+_PORT=' .env.example)
  # Whatever an earlier run that was killed has left behind.
  take_down
  trap take_down EXIT
}

take_down() { docker compose down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true; }

# build_test_image NAME DOCKERFILE: the stage "test" of a Dockerfile as image NAME-test.
build_test_image() {
  local name="$1" dockerfile="$2" log
  say "building image $name-test"
  log="$(docker build --progress plain --target test --file "$dockerfile" --tag "$(image "$name-test")" \
    --build-arg "JAVA=$(image java)" --build-arg "MAVEN=$(image maven)" \
    --build-arg "PYTHON=$(image python)" --build-arg "PYTHON_BUILD=$(image python-build)" . 2>&1)" ||
    die "image $name-test could not be built:
$(tail -n 40 <<<"$log")"
}

# run_in_stack IMAGE COMMAND...: in all of the stack's networks, with the engine's socket, since drills kill and stop
# services. CRASH_ROUNDS goes through to the drills.
run_in_stack() {
  local name="$1" container network status=0
  local -a networks
  shift
  mapfile -t networks < <(docker network ls --format '{{.Name}}' --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
  container="$(docker create --network "${networks[0]}" \
    --volume /var/run/docker.sock:/var/run/docker.sock \
    --volume "${COMPOSE_PROJECT_NAME}_producer-state:/var/lib/producer" \
    --volume "$ROOT/infra/e2e:/app/e2e:ro" \
    --env COMPOSE_PROJECT_NAME --env CRASH_ROUNDS --env KAFKA_BOOTSTRAP_SERVERS=kafka:29092 \
    --env SCHEMA_REGISTRY_URL=http://schema-registry:8081 --env "SPARK_S3_SECRET=$(env_value SPARK_S3_SECRET)" \
    --env "AIRFLOW_ADMIN_USER=$(env_value AIRFLOW_ADMIN_USER)" \
    --env "AIRFLOW_ADMIN_PASSWORD=$(env_value AIRFLOW_ADMIN_PASSWORD)" \
    --env "SUPERSET_ADMIN_USER=$(env_value SUPERSET_ADMIN_USER)" \
    --env "SUPERSET_ADMIN_PASSWORD=$(env_value SUPERSET_ADMIN_PASSWORD)" \
    --env "TRINO_S3_SECRET=$(env_value TRINO_S3_SECRET)" --env MLFLOW_TRACKING_URI=http://mlflow:5000 \
    --env "FRAUD_DB_PASSWORD=$(env_value FRAUD_DB_PASSWORD)" --env "REDIS_PASSWORD=$(env_value REDIS_PASSWORD)" \
    --user 0 "$(image "$name")" "$@")"
  for network in "${networks[@]:1}"; do docker network connect "$network" "$container"; done
  docker start --attach "$container" || status=$?
  docker rm --force "$container" >/dev/null
  return "$status"
}

#!/usr/bin/env bash
# Sourced by the scripts that test and measure: a stack of their own beside the user's, which is taken down at the end
# whatever happens, and the containers in which tests run on the mounted checkout.
set -euo pipefail

# own_stack PROJECT: a project name of its own (so containers, volumes and networks of its own), the settings of
# .env.example with fresh secrets whatever .env says, and ports shifted by 10,000.
own_stack() {
  infra/scripts/env.sh
  infra/docker/engine.sh
  infra/docker/tidy.sh
  export COMPOSE_PROJECT_NAME="$1"
  export_example_settings
  # What an earlier run that was killed has left.
  take_down
  trap end_of_stack EXIT
}

export_example_settings() {
  local line name value
  while IFS= read -r line; do
    name="${line%%=*}" value="${line#*=}"
    [[ "$value" != insecure-dev-default ]] || value="$(od -vAn -N24 -tx1 /dev/urandom | tr -d ' \n')"
    [[ "$name" != *_PORT ]] || value=$((value + 10000))
    export "$name=$value"
  done < <(grep -E '^[A-Z][A-Z0-9_]*=' .env.example)
}

take_down() { docker compose down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true; }

# The services' logs go with their containers, so a failed run keeps them first.
end_of_stack() {
  local status=$?
  if ((status != 0)) && [[ -n "$(docker compose ps --all --quiet 2>/dev/null)" ]]; then
    mkdir -p reports
    docker compose logs --no-color --timestamps >"reports/$COMPOSE_PROJECT_NAME.log" 2>&1 || true
    say "the services' logs are in reports/$COMPOSE_PROJECT_NAME.log"
  fi
  take_down
}

# The Dockerfile whose stage "test" has the packages of a test image.
declare -A TEST_DOCKERFILES=(
  [ingestion]=phase1-ingestion/producer/Dockerfile
  [spark]=infra/spark/Dockerfile
  [airflow]=phase3-transforms/airflow/Dockerfile
  [fraud-api]=phase4-ml/serving/Dockerfile
  [training]=phase4-ml/training/Dockerfile
  [kafka-exporter]=phase5-analytics/kafka_exporter/Dockerfile
)

# build_test_images NAME...: each as image NAME-test, two at a time. They hold packages only, so an edit of code rebuilds
# none.
build_test_images() {
  local name
  for name in "$@"; do
    echo "$name-test docker build --progress plain --target test --file ${TEST_DOCKERFILES[$name]}" \
      "--tag $(image "$name-test") --build-arg JAVA=$(image java) --build-arg MAVEN=$(image maven)" \
      "--build-arg PYTHON=$(image python) --build-arg PYTHON_BUILD=$(image python-build) ."
  done | xargs -P 2 -L 1 infra/docker/build_one.sh || die "not all test images were built; see the reason above"
}

# build_unit_image: the packages of all test images in one. Only what changed since is built; with everything there, that
# is a second.
build_unit_image() {
  local name
  local -a arguments=(--build-arg "JAVA=$(image java)")
  docker image inspect "$(image python-build)" "$(image java)" >/dev/null 2>&1 || infra/docker/build.sh
  build_test_images "${!TEST_DOCKERFILES[@]}"
  for name in "${!TEST_DOCKERFILES[@]}"; do
    arguments+=(--build-arg "$(tr 'a-z-' 'A-Z_' <<<"$name")=$(image "$name-test")")
  done
  infra/docker/build_one.sh unit docker build --progress plain --file infra/unit/Dockerfile --tag "$(image unit)" \
    "${arguments[@]}" . || die "image unit was not built; see the reason above"
}

# Where Python finds the platform's packages and the tests' helpers in the checkout.
python_path() {
  local folder path=""
  for folder in common common/tests phase1-ingestion phase1-ingestion/tests phase2-streaming phase2-streaming/tests \
    phase3-transforms/airflow phase3-transforms/airflow/plugins phase3-transforms/tests \
    phase4-ml phase4-ml/tests phase4-ml/bench phase5-analytics phase5-analytics/grafana infra/e2e infra/tests; do
    path+="${path:+:}/repo/$folder"
  done
  printf '%s' "$path"
}

# What every test container has: the checkout, read-only, at /repo, and how its programs find their files.
checkout_options=(
  --volume "$ROOT:/repo:ro" --workdir /repo --user 0
  --env "PYTHONPATH=$(python_path)"
  # Bytecode of packages is written as they are imported; that of the checkout can't be.
  --env PYTHONDONTWRITEBYTECODE=
  --env DBT_PROJECT_DIR=/repo/phase3-transforms/dbt_project --env DBT_PROFILES_DIR=/repo/phase3-transforms/dbt_project
  --env AIRFLOW__CORE__DAGS_FOLDER=/repo/phase3-transforms/airflow/dags
  --env AIRFLOW__CORE__PLUGINS_FOLDER=/repo/phase3-transforms/airflow/plugins
)

# run_on_checkout IMAGE COMMAND...: without services and without a network. FUZZ_REQUESTS, FUZZ_MESSAGES and
# FUZZ_SEED are passed through to the tests that generate those.
run_on_checkout() {
  docker run --rm --network none --env FUZZ_REQUESTS --env FUZZ_MESSAGES --env FUZZ_SEED "${checkout_options[@]}" "$(image "$1")" "${@:2}"
}

# run_in_stack IMAGE COMMAND...: in all of the stack's networks, with the engine's socket, since drills kill and stop
# services. CRASH_ROUNDS is passed through to the drills.
run_in_stack() {
  local name="$1" container network status=0
  local -a networks
  shift
  mapfile -t networks < <(docker network ls --format '{{.Name}}' --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
  container="$(docker create --network "${networks[0]}" "${checkout_options[@]}" \
    --volume "$(docker_socket):/var/run/docker.sock" \
    --volume "${COMPOSE_PROJECT_NAME}_producer-state:/var/lib/producer" \
    --env COMPOSE_PROJECT_NAME --env CRASH_ROUNDS --env KAFKA_BOOTSTRAP_SERVERS=kafka:29092 \
    --env SCHEMA_REGISTRY_URL=http://schema-registry:8081 --env "SPARK_S3_SECRET=$(env_value SPARK_S3_SECRET)" \
    --env "AIRFLOW_ADMIN_USER=$(env_value AIRFLOW_ADMIN_USER)" \
    --env "AIRFLOW_ADMIN_PASSWORD=$(env_value AIRFLOW_ADMIN_PASSWORD)" \
    --env "SUPERSET_ADMIN_USER=$(env_value SUPERSET_ADMIN_USER)" \
    --env "SUPERSET_ADMIN_PASSWORD=$(env_value SUPERSET_ADMIN_PASSWORD)" \
    --env "TRINO_S3_SECRET=$(env_value TRINO_S3_SECRET)" --env "TRAINING_S3_SECRET=$(env_value TRAINING_S3_SECRET)" \
    --env MLFLOW_TRACKING_URI=http://mlflow:5000 \
    --env "FRAUD_DB_PASSWORD=$(env_value FRAUD_DB_PASSWORD)" --env "REDIS_PASSWORD=$(env_value REDIS_PASSWORD)" \
    --env "STACK_API_KEY=$(env_value API_INTERNAL_KEY)" --env "RULES_AUTHOR_KEY=$(env_value RULES_AUTHOR_KEY)" \
    --env "RULES_APPROVER_KEY=$(env_value RULES_APPROVER_KEY)" \
    "$(image "$name")" "$@")"
  for network in "${networks[@]:1}"; do docker network connect "$network" "$container"; done
  docker start --attach "$container" || status=$?
  docker rm --force "$container" >/dev/null
  return "$status"
}

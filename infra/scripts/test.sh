#!/usr/bin/env bash
# test.sh [PHASE...]: the tests of these phases (default: all), each service started once, on a stack of their own.
# Unit tests run first, in the same images without services. K=name runs only the tests whose names match it, and
# starts services only if one of them needs them. Other arguments of pytest: PYTEST="--capture=no".
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

[[ $# -gt 0 ]] && phases=("$@") || phases=(1 2 3 4 5)
for phase in "${phases[@]}"; do
  [[ "$phase" == [1-5] ]] || die "$phase is not a phase; there are 1 to 5: infra/scripts/test.sh 1 2"
done
read -ra options <<<"${PYTEST:-}"
[[ -z "${K:-}" ]] || options+=(-k "$K")

# suites PHASE KIND: a line for each of its suites: the image, then what pytest is given. Training has packages of its own.
suites() {
  case "$1 $2" in
  "1 unit") echo ingestion common/tests infra/tests phase1-ingestion/tests/unit ;;
  "1 stack") echo ingestion phase1-ingestion/tests/stack ;;
  "2 "*) echo spark "phase2-streaming/tests/$2" ;;
  "3 "*) echo airflow "phase3-transforms/tests/$2" ;;
  "4 unit")
    echo training phase4-ml/tests/unit/training
    echo fraud-api phase4-ml/tests/unit --ignore phase4-ml/tests/unit/training
    ;;
  "4 stack")
    echo training phase4-ml/tests/stack/test_{training,score_examples}.py
    echo fraud-api phase4-ml/tests/stack --ignore=phase4-ml/tests/stack/test_{training,score_examples}.py
    ;;
  "5 "*) echo kafka-exporter "phase5-analytics/tests/$2" ;;
  esac
}

# services_of PHASE: what its stack tests need. Those of phase 3 write Bronze themselves, those of phase 4 write Gold and
# start the scorer that they kill.
services_of() {
  case "$1" in
  1) echo kafka schema-registry ;;
  2) echo kafka schema-registry minio spark-master spark-worker spark-streaming ;;
  3) echo kafka minio trino ;;
  4) echo kafka schema-registry minio trino postgres mlflow redis fraud-api explainer ;;
  5) echo kafka airflow-metrics kafka-exporter alertmanager prometheus ;;
  esac
}

for_each_suite() {
  local action="$1" kind="$2" phase line
  local -a suite
  for phase in "${@:3}"; do
    while read -ra suite; do "$action" "$phase" "${suite[@]}"; done < <(suites "$phase" "$kind")
  done
}

matched=0
failed=()
# A suite that fails does not stop the others: one run shows all failures. pytest's exit code 5: no test matches K; some
# other suite may have one.
note_result() {
  local what="$1" status="$2"
  ((status != 0)) || matched=1
  ((status == 0)) || { ((status == 5)) && [[ -n "${K:-}" ]]; } || failed+=("$what")
}

# run_units PHASE...: each suite takes a core, so as many run at once as there are; each prints when its turn comes.
run_units() {
  local cores folder phase number
  local -a suite titles=()
  cores="$(getconf _NPROCESSORS_ONLN)" folder="$(mktemp -d)"
  say "unit tests, $cores suites at a time"
  for phase in "$@"; do
    while read -ra suite; do
      while (($(jobs -rp | wc -l) >= cores)); do wait -n || true; done
      (
        status=0
        run_on_checkout "${suite[0]}-test" python3 -m pytest "${suite[@]:1}" "${options[@]}" </dev/null >"$folder/${#titles[@]}.log" 2>&1 || status=$?
        echo "$status" >"$folder/${#titles[@]}.status"
      ) &
      titles+=("unit tests of phase $phase in ${suite[0]}-test")
    done < <(suites "$phase" unit)
  done
  wait
  for number in "${!titles[@]}"; do
    say "${titles[number]}"
    cat "$folder/$number.log"
    note_result "${titles[number]}" "$(<"$folder/$number.status")"
  done
  rm -r "$folder"
}

run_stack() {
  say "tests of phase $1 in image $2-test"
  local status=0
  run_in_stack "$2-test" python3 -m pytest --durations=8 --durations-min=5 "${@:3}" "${options[@]}" </dev/null || status=$?
  note_result "tests of phase $1 in $2-test" "$status"
}

wanted=()
# Which phases have a stack test that K matches.
find_wanted() {
  [[ " ${wanted[*]} " == *" $1 "* ]] && return
  if [[ -z "${K:-}" ]] || run_on_checkout "$2-test" python3 -m pytest --collect-only -qq "${@:3}" "${options[@]}" >/dev/null 2>&1; then
    wanted+=("$1")
  fi
}

up() {
  say "starting $*"
  docker compose --progress quiet up --detach --wait --wait-timeout 300 "$@"
}

# start PHASE: its services, on empty topics and an empty lakehouse where it needs those.
start() {
  local -a services
  read -ra services <<<"$(services_of "$1")"
  case "$1" in
  1) up "${services[@]}" ;;
  2)
    up kafka schema-registry minio
    docker compose exec --no-TTY kafka kafka-topics --bootstrap-server localhost:29092 --delete --if-exists --topic 'transactions.*'
    docker compose run --rm ingestion-init
    up "${services[@]}"
    ;;
  3)
    docker compose --progress quiet stop spark-streaming spark-worker spark-master
    up minio
    docker compose run --rm --no-deps minio-init init_buckets.sh --empty
    up "${services[@]}"
    ;;
  4)
    up kafka schema-registry
    docker compose run --rm ingestion-init
    up "${services[@]}"
    ;;
  5) up "${services[@]}" ;;
  esac
}

own_stack fraud-platform-test
images=()
collect_image() { [[ " ${images[*]} " == *" $2 "* ]] || images+=("$2"); }
for_each_suite collect_image unit "${phases[@]}"
infra/docker/build.sh
build_test_images "${images[@]}"
run_units "${phases[@]}"
for_each_suite find_wanted stack "${phases[@]}"
if ((${#wanted[@]})); then
  services=(ingestion-init)
  for phase in "${wanted[@]}"; do
    read -ra more <<<"$(services_of "$phase")"
    services+=("${more[@]}")
  done
  infra/docker/build.sh "${services[@]}"
  for phase in "${wanted[@]}"; do
    start "$phase"
    for_each_suite run_stack stack "$phase"
  done
fi
((${#failed[@]} == 0)) || die "failed: $(printf '%s; ' "${failed[@]}")"
((matched)) || die "no test of phase ${phases[*]} matches K=$K"

#!/usr/bin/env bash
# Chaos: ROUNDS (24) kills, stops, freezes and network cuts of random services under load, drawn by SEED, then the count
# of everything; infra/e2e/chaos.py does it. On a stack of its own, which is taken down at the end, or with STACK=running
# on the stack that runs here, after a question. The report is reports/chaos-SEED.md; exit code 1 if anything is lost.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

rounds="${ROUNDS:-24}" seed="${SEED:-1}"
[[ "$rounds" =~ ^[1-9][0-9]*$ ]] || die "ROUNDS=$rounds is no number of rounds: make chaos ROUNDS=24 SEED=1"
[[ "$seed" =~ ^[0-9]+$ ]] || die "SEED=$seed is no whole number: make chaos ROUNDS=24 SEED=1"
runs_here() { docker compose ps --services --status running 2>/dev/null | grep -qx fraud-api; }

# A small world, whose history takes minutes; the pipeline makes tables and a first model, as on any stack.
start_own() {
  ! runs_here || die "your stack runs, and this machine has no room for another: make down, or STACK=running to use it"
  own_stack fraud-platform-chaos
  export SIM_USERS=2000 BACKFILL_DAYS=60 RUNWAY_DAYS=400 PRODUCER_TPS=100 TRAINING_MINIMUM_AUC=0.8
  say "chaos: starting the project fraud-platform-chaos; your stack, if you have one, is not touched"
  make --no-print-directory phase4-up
}

use_running() {
  local answer
  runs_here || die "no stack runs here: make up; or without STACK=running, which starts a stack of its own"
  COMPOSE_PROJECT_NAME="$(project_name .env)"
  export COMPOSE_PROJECT_NAME
  warn "this kills, stops, freezes and cuts off services of the running project $COMPOSE_PROJECT_NAME, about 15 s each time,
and sends test payments to its API, whose predictions stay. Its clients will notice. Data should not be lost: that is
what is tested."
  read -r -p "Type y or yes to do that to $COMPOSE_PROJECT_NAME: " answer || die "no answer: nothing was touched"
  [[ "$answer" =~ ^([yY]|[yY][eE][sS])$ ]] || die "the answer was not y or yes: nothing was touched"
  # Whatever ends it, no service stays frozen.
  trap 'docker compose unpause >/dev/null 2>&1 || true' EXIT
}

# What the simulator has sent since the stack began, computed again from its seed, is in Kafka, each message once.
check_what_was_sent() {
  docker compose --progress quiet stop producer
  run_in_stack ingestion-test python3 -c '
from pathlib import Path
from fraud_common.settings import load_settings
from ingestion_stack import assert_exactly_once
from producer.settings import Settings
assert_exactly_once(load_settings(Settings), Path("/var/lib/producer"))'
}

case "${STACK:-own}" in
own) start_own ;;
running) use_running ;;
*) die "STACK=$STACK is not one of: own, running" ;;
esac
build_test_images fraud-api ingestion
mkdir -p reports
status=0
run_in_stack fraud-api-test python3 infra/e2e/chaos.py --rounds "$rounds" --seed "$seed" | tee "reports/chaos-$seed.md" || status=1
if [[ "${STACK:-own}" == own ]]; then
  say "what the simulator has sent, against Kafka"
  check_what_was_sent | tee -a "reports/chaos-$seed.md" || status=1
fi
((status == 0)) || die "something is lost, doubled or did not recover; reports/chaos-$seed.md has the tables. The same faults again: make chaos ROUNDS=$rounds SEED=$seed"
say "chaos: nothing is lost or doubled; report in reports/chaos-$seed.md"

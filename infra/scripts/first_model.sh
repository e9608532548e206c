#!/usr/bin/env bash
# On a fresh stack: features into Redis, the first model, and a wait until the API serves it.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

# serves: the model version that the API answers with; nothing where it does not answer.
serves() {
  docker compose exec --no-TTY fraud-api sh -c 'curl -fsS -H "X-API-Key: $API_INTERNAL_KEY" localhost:8000/ready' 2>/dev/null |
    sed -n 's/.*"model_version": *"\([^"]*\)".*/\1/p' || true
}
has_production() { docker compose exec --no-TTY training python3 -m training.models list --has-production; }
# train: a run of the DAG model_training, and its output.
train() {
  local run
  run="$(docker compose --progress quiet run --rm --no-deps --no-TTY airflow-init python -m lakehouse.start_training)" &&
    docker compose exec --no-TTY training python3 -m training_runs.client --watch --run "$run"
}

if [[ "$(serves)" != rules-* ]]; then
  exit
fi
examples="$(docker compose exec --no-TTY trino trino --output-format CSV_UNQUOTED \
  --execute "select count(*) from gold.mart_training_examples" 2>/dev/null || true)"
if [[ ! "$examples" =~ ^[1-9] ]]; then
  warn "no model yet, rules score: gold.mart_training_examples is empty. Labels mature after 14 days; then: make ml-train"
  exit
fi
say "features into Redis, once; from now on the pipeline does it"
docker compose exec --no-TTY airflow-scheduler push-features
if ! has_production; then
  say "the first model; about three minutes"
  # Too few frauds, for example, is no reason for make up to fail; the line above the warning says it.
  train || true
  if ! has_production; then
    warn "the first model was not promoted, for the reason above: rules score until one is. What to do is there, too; then: make ml-train"
    exit
  fi
fi
say "waiting until the API serves it"
end=$((SECONDS + 120))
until version="$(serves)" && [[ -n "$version" && "$version" != rules-* ]]; do
  ((SECONDS < end)) || die "the API serves no model; look at: docker compose logs fraud-api, make ml-models"
  sleep 2
done
say "the API serves version $version of the model"

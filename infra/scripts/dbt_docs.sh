#!/usr/bin/env bash
# Serves the documentation of all dbt models, with their lineage and columns, until Ctrl-C.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

[[ -n "$(docker compose ps --quiet trino)" ]] || die "Trino is not up, and the documentation reads the tables: make phase3-up"
port="$(env_value DBT_DOCS_PORT)"
say "http://localhost:$port in a moment; Ctrl-C ends it"
docker compose run --rm --no-deps --publish "$(env_value NO_LOGIN_BIND_ADDRESS):$port:8000" airflow-scheduler \
  bash -c 'dbt-run docs generate && exec dbt docs serve --host 0.0.0.0 --port 8000 --no-browser'

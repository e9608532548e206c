#!/usr/bin/env bash
# dbt.sh COMMAND...: dbt in the scheduler's container, where one run waits for the other. SELECT chooses models, FULL
# rebuilds them from the beginning.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

options=()
[[ -z "${FULL:-}" ]] || options+=(--full-refresh)
[[ -z "${SELECT:-}" ]] || options+=(--select "$SELECT")
docker compose exec airflow-scheduler dbt-run "$@" "${options[@]}"

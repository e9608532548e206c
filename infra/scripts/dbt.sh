#!/usr/bin/env bash
# dbt.sh COMMAND...: dbt in the scheduler's container, where one run waits for the other. SELECT chooses models, FULL
# rebuilds them from the beginning.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

options=()
[[ -z "${FULL:-}" ]] || options+=(--full-refresh)
[[ -z "${SELECT:-}" ]] || options+=(--select "$SELECT")
# After a replay, people mean all rows of their file.
if [[ "$1" == build && -z "${SELECT:-}" && -n "$(bronze_lag)" ]]; then
  wait_for_bronze 1000 2 || warn "Bronze is still $(bronze_lag) messages behind; the next run builds from those"
fi
docker compose exec airflow-scheduler dbt-run "$@" "${options[@]}"

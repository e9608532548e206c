#!/usr/bin/env bash
# dbt.sh COMMAND...: dbt in the scheduler's container, where one run waits for the other. SELECT chooses models, FULL
# rebuilds them from the beginning. A build of all models waits until Bronze has what is in Kafka.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

# behind: how many messages of Kafka are not in Bronze; nothing if Kafka or Bronze does not say. Without a commit of a
# partition, its end counts. Bronze's own metric says nothing before both of its streams have had a batch.
behind() {
  docker compose exec --no-TTY kafka kafka-consumer-groups --bootstrap-server localhost:29092 \
    --describe --group bronze-writer 2>/dev/null |
    awk '$1 == "bronze-writer" {sum += $6 == "-" ? $5 : $6; found = 1} END {if (found) printf "%d", sum}' || true
}

# After a replay, people mean all rows of their file. The rest is a few seconds of a live stream.
wait_for_rows() {
  local left least="" moved_at="$SECONDS"
  while left="$(behind)" && [[ -n "$left" ]] && ((left > 1000)); do
    if [[ -z "$least" ]] || ((left < least)); then
      least="$left" moved_at="$SECONDS"
    elif ((SECONDS - moved_at > 180)); then
      warn "Bronze has made no progress for 3 minutes; a later run builds from the other $left messages"
      return
    fi
    say "Bronze: $left messages to catch up with"
    sleep 5
  done
}

options=()
[[ -z "${FULL:-}" ]] || options+=(--full-refresh)
[[ -z "${SELECT:-}" ]] || options+=(--select "$SELECT")
if [[ "$1" == build && -z "${SELECT:-}" ]]; then wait_for_rows; fi
docker compose exec airflow-scheduler dbt-run "$@" "${options[@]}"

#!/usr/bin/env bash
# The measurements that the README quotes, as a Markdown table on standard output and in reports/bench.md.
# Runs on a stack of its own, so that nothing else takes its share of the machine.
# MESSAGES (1000000) and SECONDS_AT_RATE (60) make it shorter or longer.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

messages="${MESSAGES:-1000000}"
seconds="${SECONDS_AT_RATE:-60}"

# value NAME: a number out of a line of JSON.
value() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }

own_stack fraud-platform-bench
infra/docker/build.sh kafka schema-registry ingestion-init
docker compose --progress quiet up --detach --wait --wait-timeout 300 kafka schema-registry
docker compose --progress quiet run --rm ingestion-init >/dev/null

say "producer: $messages messages as fast as it goes, then $seconds s each at 100 and 5,000 a second"
mapfile -t results < <(docker compose --progress quiet run --rm --no-deps ingestion-init \
  ingestion bench --messages "$messages" --seconds "$seconds" --tps 100 --tps 5000)
[[ ${#results[@]} == 3 ]] || die "the producer's bench failed; its message stands above"
bytes="$(value record_bytes <<<"${results[0]}")"
ours="$(value messages_per_second <<<"${results[0]}")"

say "kafka-producer-perf-test: as many records of the same size, with the same acks, idempotence and compression"
perf="$(docker compose exec --no-TTY kafka kafka-producer-perf-test --topic bench.transactions \
  --num-records "$messages" --record-size "${bytes%.*}" --throughput -1 \
  --producer-props bootstrap.servers=localhost:29092 acks=all enable.idempotence=true compression.type=lz4 linger.ms=20 |
  tail -n 1)"
theirs="$(sed -n 's/.* \([0-9.]*\) records\/sec.*/\1/p' <<<"$perf")"

mkdir -p reports
tee reports/bench.md <<MARKDOWN
Measured $(date -u +%Y-%m-%d) on $(getconf _NPROCESSORS_ONLN) cores, $(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo), by \`make bench\`; broker and producer on the same machine.

| measurement | result |
|---|---|
| producer at full speed, Avro, acks=all, idempotent, one process | $(printf '%.0f' "$ours") messages/s ($messages messages of $bytes bytes) |
| kafka-producer-perf-test, same run and record size, no serialisation | $(printf '%.0f' "$theirs") records/s |
| ratio | $(awk "BEGIN {printf \"%.2f\", $ours / $theirs}") |
| PRODUCER_TPS=100 over $seconds s | $(value messages_per_second <<<"${results[1]}") messages/s |
| PRODUCER_TPS=5000 over $seconds s | $(value messages_per_second <<<"${results[2]}") messages/s |
MARKDOWN

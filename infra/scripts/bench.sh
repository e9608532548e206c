#!/usr/bin/env bash
# The measurements in docs/benchmarks.md, as Markdown tables on standard output and in reports/bench.md.
# Runs on a stack of its own, so that nothing else takes its share of the machine.
# PARTS (kafka bronze transforms api stream replay backlog dlq soak) chooses some; MESSAGES (1000000), ROWS (1000000),
# BACKLOG (2000000), LETTERS (2000000), SECONDS_AT_RATE (60), MINUTES_LIVE (3) and MINUTES_SOAK (45) make it shorter or
# longer.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/versions.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

parts="${PARTS:-kafka bronze transforms api stream replay backlog dlq soak}"
messages="${MESSAGES:-1000000}"
seconds="${SECONDS_AT_RATE:-60}"
minutes_live="${MINUTES_LIVE:-3}"
[[ " $parts " != *" transforms "* || " $parts " == *" bronze "* ]] ||
  die "transforms builds from the Bronze of the part before it: PARTS=\"bronze transforms\""

# value NAME: a number out of a line of JSON.
value() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }
row() { printf '| %s | %s |\n' "$1" "$2"; }
up() { docker compose --progress quiet up --detach --wait --wait-timeout 600 "$@"; }
in_airflow() {
  docker compose --progress quiet run --rm --no-TTY --no-deps --volume "$ROOT/phase3-transforms/bench:/opt/bench:ro" \
    airflow-scheduler python "$@"
}

measured_on() {
  # shellcheck disable=SC2016 # the back quotes are Markdown
  printf 'Measured %s by `make bench%s` on %s cores (%s), %s, Linux %s, Docker %s; everything on the same machine. Kafka %s, Spark %s with Delta %s, Trino %s, dbt %s, ONNX Runtime %s.\n\n' \
    "$(date -u +%Y-%m-%d)" "${PARTS:+ PARTS=\"$PARTS\"}" "$(getconf _NPROCESSORS_ONLN)" \
    "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)" \
    "$(uname -r)" "$(docker version --format '{{.Server.Version}}')" "$(artifact kafka_2.13 kafka)" "$(package pyspark infra/spark)" \
    "$(package delta-spark infra/spark)" "$(artifact trino-server trino)" "$(package dbt-core phase3-transforms/airflow/dbt-requirements)" \
    "$(package onnxruntime phase4-ml/serving)"
}

bench_kafka() {
  local results bytes ours perf theirs
  say "producer: $messages messages as fast as it goes, then $seconds s each at 100 and 5,000 a second"
  mapfile -t results < <(run_in_stack ingestion-test python3 phase1-ingestion/bench/bench_producer.py --messages "$messages" --seconds "$seconds" --tps 100 --tps 5000)
  [[ ${#results[@]} == 3 ]] || die "the producer's bench failed; its message stands above"
  bytes="$(value record_bytes <<<"${results[0]}")"
  ours="$(value messages_per_second <<<"${results[0]}")"

  say "kafka-producer-perf-test: as many records of the same size, with the same acks, idempotence and compression"
  perf="$(docker compose exec --no-TTY kafka kafka-producer-perf-test --topic bench.transactions \
    --num-records "$messages" --record-size "${bytes%.*}" --throughput -1 \
    --producer-props bootstrap.servers=localhost:29092 acks=all enable.idempotence=true compression.type=lz4 linger.ms=20 |
    tail -n 1)"
  theirs="$(sed -n 's/.* \([0-9.]*\) records\/sec.*/\1/p' <<<"$perf")"

  row "producer at full speed, Avro, acks=all, idempotent, one process" "$(printf '%.0f' "$ours") messages/s ($messages messages of $bytes bytes)"
  row "kafka-producer-perf-test, same run and record size, no serialisation" "$(printf '%.0f' "$theirs") records/s"
  row ratio "$(awk "BEGIN {printf \"%.2f\", $ours / $theirs}")"
  row "PRODUCER_TPS=100 over $seconds s" "$(value messages_per_second <<<"${results[1]}") messages/s"
  row "PRODUCER_TPS=5000 over $seconds s" "$(value messages_per_second <<<"${results[2]}") messages/s"
}

# in_driver ARGUMENTS...: spark-submit in a container like that of the streaming job.
in_driver() {
  docker compose --progress quiet run --rm --no-TTY --no-deps --name bench-driver --env METRICS_PORT=0 \
    --volume "$ROOT/phase2-streaming/bench:/app/bench:ro" --user 0 spark-streaming \
    start-spark submit --driver-memory=768m --conf spark.driver.bindAddress=0.0.0.0 \
    --conf spark.driver.host=bench-driver "$@" 2>reports/bench-spark.log | grep '^{' ||
    die "spark failed: reports/bench-spark.log"
}

bench_bronze() {
  local bronze behind latency latency_rows latency_median latency_p95
  say "Bronze: history to catch up with, and the cluster; about four minutes"
  infra/docker/build.sh minio spark-master trino airflow-init
  export BACKFILL_DAYS=55 PRODUCER_TPS=100
  up producer spark-worker
  docker compose exec --no-TTY producer ingestion progress --metrics-url http://localhost:9400/metrics >&2
  docker compose --progress quiet stop producer
  docker compose --progress quiet run --rm minio-init >/dev/null
  say "Bronze: the whole job against the same with a sink that drops all"
  bronze="$(in_driver --executor-memory=1g --conf spark.cores.max=2 bench/bench_bronze.py)"

  say "Bronze: $minutes_live minutes at 100 a second, once it has caught up"
  up --no-deps spark-streaming
  docker compose --progress quiet start producer
  until behind="$(bronze_lag)" && [[ -n "$behind" ]] && ((behind < 5000)); do sleep 2; done
  sleep "$((60 * (minutes_live + 1)))" # what is measured is this time
  docker compose --progress quiet stop producer
  up --no-deps trino
  in_airflow -m lakehouse.register --wait 60 >/dev/null
  # A batch's rows share their load time, and can be seen from the first commit after it on.
  latency="$(docker compose exec --no-TTY trino trino --output-format CSV_UNQUOTED --execute "
    with newest as (select max(loaded_at) as loaded_at from bronze.transactions),
    batches as (
      select loads.loaded_at, min(commits.timestamp) as committed_at
      from (select distinct loaded_at from bronze.transactions) as loads
      join bronze.\"transactions\$history\" as commits
        on commits.operation = 'WRITE' and commits.timestamp >= loads.loaded_at
      where loads.loaded_at > (select loaded_at - interval '$minutes_live' minute from newest)
      group by loads.loaded_at)
    select count(*), approx_percentile(seconds, 0.5), approx_percentile(seconds, 0.95) from (
      select date_diff('millisecond', kafka_timestamp, committed_at) / 1000.0 as seconds
      from bronze.transactions join batches using (loaded_at))" 2>/dev/null)"
  IFS=, read -r latency_rows latency_median latency_p95 <<<"$latency"
  docker compose --progress quiet stop trino spark-streaming spark-worker spark-master

  row "Bronze catching up, two executor cores: decode, check, count, write to Delta on MinIO" "$(value whole_job <<<"$bronze") rows/s"
  row "the same, with a sink that drops all" "$(value noop_sink <<<"$bronze") rows/s"
  row ratio "$(value ratio <<<"$bronze")"
  row "at 100 messages/s, from Kafka's time stamp to Delta's commit ($latency_rows rows, trigger 10 s)" "median $latency_median s, p95 $latency_p95 s"
}

bench_transforms() {
  local transforms line
  say "Silver and Gold from 1 and from 2 million payments, and 9,000 more; about ten minutes"
  infra/docker/build.sh minio trino airflow-init
  up trino
  mapfile -t transforms < <(in_airflow /opt/bench/bench_transforms.py)
  [[ ${#transforms[@]} == 2 ]] || die "the bench of the transforms failed; its message stands above"
  docker compose --progress quiet stop trino
  for line in "${transforms[@]}"; do
    row "Silver and Gold from $(value payments <<<"$line") payments: full build, then a run after $(value added <<<"$line") more, one with nothing new" \
      "$(value full_s <<<"$line") s, $(value incremental_s <<<"$line") s ($(value ratio <<<"$line") of the full one), $(value nothing_new_s <<<"$line") s"
  done
}

# The test image has the load generator and the naive design's packages.
serving_image() {
  infra/docker/build.sh postgres mlflow redis
  build_test_images fraud-api
  up redis
}

bench_api() {
  say "the API: 500 requests a second for a minute, at full speed, and the naive design; about four minutes"
  infra/docker/build.sh fraud-api
  serving_image
  up postgres mlflow
  docker compose --progress quiet run --rm fraud-db-init >/dev/null
  run_in_stack fraud-api-test python3 phase4-ml/bench/bench_api.py || die "the bench of the API failed; its message stands above"
}

bench_stream() {
  say "the feature stream: catching up, and 1,000 payments a second; about two minutes"
  serving_image
  run_in_stack fraud-api-test python3 phase4-ml/bench/bench_stream.py || die "the bench of the feature stream failed; its message stands above"
}

bench_replay() {
  local rows="${ROWS:-1000000}" line
  say "replay: $rows rows of 5 columns and a tenth as many of 400, with labels; about two minutes"
  printf '| replay of a CSV | result |\n|---|---|\n'
  run_in_stack ingestion-test python3 phase1-ingestion/bench/bench_replay.py --rows "$rows" --wide-rows "$((rows / 10))" |
    while read -r line; do
      row "$(value rows <<<"$line") rows of $(value columns <<<"$line") columns, all read, sent and acknowledged" \
        "$(value rows_per_second <<<"$line") rows/s, peak memory $(value peak_mib <<<"$line") MiB"
    done
}

# Scorer and API with a model; each consumer is started on its own, so that its speed is its own.
bench_backlog() {
  local backlog="${BACKLOG:-2000000}"
  say "a backlog of $backlog payments and as many labels, with the memory limits as shipped; about 15 minutes"
  infra/docker/build.sh minio spark-master fraud-api
  serving_image
  docker compose --progress quiet down --volumes
  up kafka schema-registry
  docker compose --progress quiet run --rm ingestion-init >/dev/null
  up postgres mlflow redis minio spark-worker
  docker compose --progress quiet run --rm fraud-db-init >/dev/null
  docker compose --progress quiet run --rm minio-init >/dev/null
  # The scorer begins where the topic ends at its first start.
  up scorer
  docker compose --progress quiet stop scorer
  FEATURE_STREAM_FROM=kafka docker compose --progress quiet create feature-stream model-quality spark-streaming
  run_in_stack fraud-api-test python3 infra/e2e/backlog.py --count "$backlog" || die "a consumer did not survive its backlog; its message stands above"
}

bench_dlq() {
  local letters="${LETTERS:-2000000}"
  say "the dead letter tools with $letters dead letters; about 10 minutes"
  run_in_stack ingestion-test python3 phase1-ingestion/bench/bench_dlq.py "$letters" || die "the dead letter tools failed; the message stands above"
}

bench_soak() {
  local minutes="${MINUTES_SOAK:-45}"
  say "soak: the whole stack, then 10 minutes of warm-up and $minutes more at 200 payments a second; about $((minutes + 30)) minutes"
  docker compose --progress quiet down --volumes
  BACKFILL_DAYS=45 PRODUCER_TPS=200 make --no-print-directory up >&2
  build_test_images fraud-api
  run_in_stack fraud-api-test python3 infra/e2e/soak.py --minutes "$minutes" || die "the soak did not hold; what did not stands above"
}

own_stack fraud-platform-bench
infra/docker/build.sh kafka schema-registry ingestion-init
build_test_images ingestion
up kafka schema-registry
docker compose --progress quiet run --rm ingestion-init >/dev/null
{
  measured_on
  for part in $parts; do
    case "$part" in
    kafka | bronze | transforms)
      [[ -n "${began:-}" ]] || printf '| measurement | result |\n|---|---|\n'
      began=yes
      ;;
    *) printf '\n' ;;
    esac
    "bench_$part"
  done
} | tee reports/bench.md

#!/usr/bin/env bash
# Sourced: memory limits of containers that follow other settings. Redis and the API check the same when they start.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/../redis/memory.sh"

# The limit, the setting that it follows, and what such a setting looks like.
FOLLOWING_LIMITS=(
  "REDIS_MEM_LIMIT REDIS_MAXMEMORY a size of 16mb or more, such as 256mb or 1gb"
  "API_MEM_LIMIT API_WORKERS a number from 1 to 64"
  "SPARK_WORKER_MEM_LIMIT SPARK_EXECUTOR_MEMORY a size such as 512m or 1g"
)

# mib_needed SETTING VALUE: the limit in MiB; nothing if the value is not usable.
mib_needed() {
  case "$1" in
  REDIS_MAXMEMORY) redis_mib_needed "$2" ;;
  API_WORKERS) api_mib_needed "$2" ;;
  SPARK_EXECUTOR_MEMORY) spark_mib_needed "$2" ;;
  esac
}

# Its own figures are in the program, which compares them with the limit that it finds.
api_mib_needed() {
  local base worker memory="$ROOT/phase4-ml/serving/memory.py"
  [[ "$1" =~ ^[1-9][0-9]?$ ]] && (($1 <= 64)) || return 0
  base="$(sed -n 's/^BASE_MIB = //p' "$memory")" worker="$(sed -n 's/^WORKER_MIB = //p' "$memory")"
  echo $((base + worker * $1))
}

# The heap of the executor, what Spark itself allows for besides (a tenth, at least 384 MiB), and the worker's daemon.
spark_mib_needed() {
  local heap more
  heap="$(binary_mib "$1")"
  [[ -n "$heap" ]] && ((heap > 0)) || return 0
  more=$((heap / 10 > 384 ? heap / 10 : 384))
  echo $((heap + more + 256))
}

# binary_mib SIZE: a size as Docker and Java read it, in MiB; nothing if it is none.
binary_mib() {
  local form='^([0-9]{1,15})(b|k|kb|m|mb|g|gb|t|tb)?$'
  [[ "${1,,}" =~ $form ]] || return 0
  case "${BASH_REMATCH[2]}" in
  t*) echo $((10#${BASH_REMATCH[1]} * 1048576)) ;;
  g*) echo $((10#${BASH_REMATCH[1]} * 1024)) ;;
  m*) echo $((10#${BASH_REMATCH[1]})) ;;
  k*) echo $((10#${BASH_REMATCH[1]} / 1024)) ;;
  *) echo $((10#${BASH_REMATCH[1]} / 1048576)) ;;
  esac
}

# memory_complaints: a line for each limit that is too low, and for each setting that no limit follows from.
memory_complaints() {
  local limit setting form needed now
  while read -r limit setting form; do
    needed="$(mib_needed "$setting" "$(env_value "$setting")")" now="$(binary_mib "$(env_value "$limit")")"
    if [[ -z "$needed" ]]; then
      echo "$setting=$(env_value "$setting") is not $form; correct it in .env"
    elif [[ -z "$now" ]]; then
      echo "$limit=$(env_value "$limit") is not a size such as ${needed}m; correct it in .env"
    elif ((now < needed)); then
      echo "$setting=$(env_value "$setting") needs $needed MiB, and $limit has $now; set $limit=${needed}m"
    fi
  done < <(printf '%s\n' "${FOLLOWING_LIMITS[@]}")
}

# raise_memory_limits FILE: raises those in the file that are too low; a higher one is a choice. One that the
# environment sets is left, since it wins over the file; make doctor complains about it.
raise_memory_limits() {
  local file="$1" limit setting needed now line rest
  while read -r limit setting _; do
    needed="$(mib_needed "$setting" "$(env_value "$setting")")" now="$(binary_mib "$(env_value "$limit")")"
    if [[ -z "$needed" || -z "$now" ]] || ((now >= needed)) || exported "$limit"; then continue; fi
    line="$(setting_line "$limit" "$file")" || continue
    # Written through, so that the file keeps its mode and owner.
    rest="$(grep -vxF -- "$line" "$file" || true)"
    printf '%s\n%s=%sm\n' "$rest" "$limit" "$needed" >"$file"
    say "$limit is now ${needed}m in $file: $setting=$(env_value "$setting") needs it"
  done < <(printf '%s\n' "${FOLLOWING_LIMITS[@]}")
}

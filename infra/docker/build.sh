#!/usr/bin/env bash
# build.sh SERVICE...: builds the images of those Compose services, and first the images that they are FROM; two at a
# time, since downloads and compression leave cores idle. The log of each build is kept in reports/.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/images.sh"

AT_A_TIME=2

# build NAME COMMAND...: one line when it starts, one when it took long, and the end of its log if it failed.
build() {
  local name="$1" log="reports/build-$1.log" started="$SECONDS"
  shift
  say "building image $name"
  "$@" >"$log" 2>&1 </dev/null || {
    tail -n 40 "$log" >&2
    die "image $name could not be built. The whole log is in $log; after a repair, run the same command again"
  }
  ((SECONDS - started < 5)) || say "  $name took $((SECONDS - started)) s"
}

foundation() {
  local name="$1"
  shift
  build "$name" docker build --progress plain --tag "$(image "$name")" "${proxy_arguments[@]}" "$@" .
}

build_foundations() {
  infra/docker/base.sh
  foundation java --file infra/java/Dockerfile --build-arg "BASE=$(image base)" &
  foundation python --file infra/python/Dockerfile --target runtime --build-arg "BASE=$(image base)"
  foundation python-build --file infra/python/Dockerfile --target build --build-arg "BASE=$(image base)"
  wait_for_builds
  foundation maven --file infra/maven/Dockerfile --build-arg "JAVA=$(image java)"
}

# wait_for_builds: ends with an error if one of the background builds failed; it has said why.
wait_for_builds() {
  local job failed=0
  for job in $(jobs -p); do wait "$job" || failed=1; done
  ((failed == 0)) || exit 1
}

build_services() {
  local service reference failed=0
  local -a pulled=()
  while read -r service reference; do
    if pulled_for_this_commit "$reference"; then
      pulled+=("$(basename "${reference%:*}")")
      continue
    fi
    if (($(jobs -rp | wc -l) >= AT_A_TIME)); then wait -n || failed=1; fi
    ((failed == 0)) || break
    build "$(basename "${reference%:*}")" docker compose --progress plain build "${proxy_arguments[@]}" "$service" &
  done < <(one_per_image "$@")
  wait_for_builds
  ((${#pulled[@]} == 0)) || say "images pulled for this commit: ${pulled[*]}"
}

mkdir -p reports
mapfile -t proxy_arguments < <(proxy_build_arguments)
build_foundations
build_services "$@"

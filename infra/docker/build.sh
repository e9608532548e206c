#!/usr/bin/env bash
# build.sh SERVICE...: builds the images of those Compose services, and first the images that they are FROM.
# One at a time: a build is heavy, and two on two cores take longer than one after the other.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LOG="$(mktemp)"
trap 'rm -f "$LOG"' EXIT

# build NAME COMMAND...: one line while it runs, and the end of its output only where it failed.
build() {
  local name="$1" started="$SECONDS"
  shift
  say "building image $name"
  "$@" >"$LOG" 2>&1 || {
    tail -n 40 "$LOG" >&2
    die "image $name could not be built; the reason stands above. The same command goes on from there."
  }
  ((SECONDS - started < 5)) || say "  $name took $((SECONDS - started)) s"
}

foundation() {
  local name="$1"
  shift
  build "$name" docker build --progress plain --tag "$(image "$name")" "$@" .
}

infra/docker/base.sh
foundation java --file infra/java/Dockerfile --build-arg "BASE=$(image base)"
foundation maven --file infra/maven/Dockerfile --build-arg "JAVA=$(image java)"
foundation python --file infra/python/Dockerfile --target runtime --build-arg "BASE=$(image base)"
foundation python-build --file infra/python/Dockerfile --target build --build-arg "BASE=$(image base)"

# one_per_image SERVICE...: those services with their images, each image once. Compose labels an image with the service
# it was built for, so that building it for each would make as many images. What is only pulled has nothing to build.
one_per_image() {
  docker compose config | awk -v wanted=" $* " '
    /^  [a-z0-9-]+:$/ {service = substr($1, 1, length($1) - 1); builds = 0}
    /^    build:$/ {builds = 1}
    /^    image:/ && builds && index(wanted, " " service " ") && !seen[$2]++ {print service, $2}'
}

one_per_image "$@" | while read -r service reference; do
  build "$(basename "${reference%:*}")" docker compose --progress plain build "$service" </dev/null
done

#!/usr/bin/env bash
# build.sh SERVICE...: builds the images of those Compose services, and first the images that they are FROM.
# One at a time: a build is heavy, and two on two cores take longer than one after the other.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

foundation() {
  local name="$1"
  shift
  say "image $name"
  docker build --progress "${BUILD_PROGRESS:-quiet}" --tag "$(image "$name")" "$@" . >/dev/null
}

say "image base"
infra/docker/base.sh
foundation java --file infra/images/java/Dockerfile --build-arg "BASE=$(image base)"
foundation maven --file infra/images/maven/Dockerfile --build-arg "JAVA=$(image java)"
foundation python --file infra/images/python/Dockerfile --target runtime --build-arg "BASE=$(image base)"
foundation python-build --file infra/images/python/Dockerfile --target build --build-arg "BASE=$(image base)"

# Services that share an image build it once; those whose image is only pulled have nothing to build.
for service in "$@"; do
  say "image of $service"
  docker compose build --quiet "$service"
done

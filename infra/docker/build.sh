#!/usr/bin/env bash
# build.sh SERVICE...: builds the images of those Compose services, and first the images that they are FROM; two at a
# time, since downloads and compression leave cores idle. Images that make pull brought for this commit are not built.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/images.sh"

AT_A_TIME=2

# build: builds the images named on standard input, a line with the name and the command of each.
build() {
  xargs -P "$AT_A_TIME" -L 1 infra/docker/build_one.sh ||
    die "not all images were built; see the reason above, then run the same command again"
}

# foundation NAME OPTION...: the line that builds one of the images that others are FROM.
foundation() { echo "$1 docker build --progress plain --tag $(image "$1") ${*:2} ."; }

build_foundations() {
  infra/docker/base.sh
  {
    foundation java --file infra/java/Dockerfile --build-arg "BASE=$(image base)"
    foundation python --file infra/python/Dockerfile --target runtime --build-arg "BASE=$(image base)"
  } | build
  {
    foundation maven --file infra/maven/Dockerfile --build-arg "JAVA=$(image java)"
    foundation python-build --file infra/python/Dockerfile --target build --build-arg "BASE=$(image base)"
  } | build
}

# split_by_origin SERVICE...: sorts their images into those that are pulled for this commit and those to build.
pulled=() to_build=()
split_by_origin() {
  local service reference name
  while read -r service reference; do
    name="$(basename "${reference%:*}")"
    if pulled_for_this_commit "$reference"; then
      pulled+=("$name")
    else
      to_build+=("$name docker compose --progress plain build $service")
    fi
  done < <(one_per_image "$@")
}

(($# == 0)) || split_by_origin "$@"
((${#pulled[@]} == 0)) || say "images pulled for this commit: ${pulled[*]}"
# Without services, the foundations alone.
(($# == 0 || ${#to_build[@]} > 0)) || exit 0
# What is built replaces what was pulled.
((${#to_build[@]} == 0)) || rm -f "$PULLED"
build_foundations
((${#to_build[@]} == 0)) || printf '%s\n' "${to_build[@]}" | build

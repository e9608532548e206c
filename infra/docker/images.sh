#!/usr/bin/env bash
# Sourced: which images there are, and where they come from.

# one_per_image SERVICE...: those services with their images, each image once. Compose labels an image with the service
# it was built for, so building it for each would make as many images. What is only pulled has nothing to build.
one_per_image() {
  docker compose config | awk -v wanted=" $* " '
    /^  [a-z0-9-]+:$/ {service = substr($1, 1, length($1) - 1); builds = 0}
    /^    build:$/ {builds = 1}
    /^    image:/ && builds && index(wanted, " " service " ") && !seen[$2]++ {print service, $2}'
}

# The record that make pull leaves: the commit whose images are here under the local tag.
PULLED=.images-pulled

current_commit() { git rev-parse --short=12 HEAD 2>/dev/null; }
tree_is_clean() { [[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]]; }

# pulled_for_this_commit REFERENCE: whether make pull brought it for the commit that is checked out, without local edits.
pulled_for_this_commit() {
  [[ -f "$PULLED" && "$(<"$PULLED")" == "$(current_commit)" ]] && tree_is_clean &&
    docker image inspect "$1" >/dev/null 2>&1
}

# proxy_build_arguments: the proxy of this shell as arguments of a build, one a line; nothing without a proxy.
proxy_build_arguments() {
  local name
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    [[ -z "${!name:-}" ]] || printf -- '--build-arg\n%s=%s\n' "$name" "${!name}"
  done
}

#!/usr/bin/env bash
# Sourced: where the images of a commit come from.

# make pull leaves it: the commit whose images are here under the local tag.
PULLED=.images-pulled

current_commit() { git rev-parse --short=12 HEAD 2>/dev/null; }

# Whether everything that goes into images is as committed; other files in the checkout are not in them.
tree_is_clean() {
  local changes
  changes="$(git status --porcelain -- docker-compose.yml .dockerignore common infra 'phase*' 2>/dev/null)" || return
  [[ -z "$changes" ]]
}

# pulled_for_this_commit REFERENCE: whether make pull brought it for the commit that is checked out, without local edits.
pulled_for_this_commit() {
  [[ -f "$PULLED" && "$(<"$PULLED")" == "$(current_commit)" ]] && tree_is_clean &&
    docker image inspect "$1" >/dev/null 2>&1
}

# published REFERENCE: whether a registry has it. Dies if that can't be known, since a push would overwrite it.
published() {
  local answer
  answer="$(docker manifest inspect --insecure "$1" 2>&1 >/dev/null)" && return
  [[ "$answer" =~ (no such manifest|not found|manifest unknown|name unknown) ]] && return 1
  die "can't ask the registry whether it has $1 ($answer); docker login, or correct IMAGE_REGISTRY in .env"
}

# proxy_build_arguments: the proxy of this shell as arguments of a build, one a line; nothing without a proxy.
proxy_build_arguments() {
  local name
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    [[ -z "${!name:-}" ]] || printf -- '--build-arg\n%s=%s\n' "$name" "${!name}"
  done
}

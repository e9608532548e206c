#!/usr/bin/env bash
# pull.sh SERVICE...: takes the images of the commit that is checked out from IMAGE_REGISTRY; make up then builds none.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/images.sh"

infra/scripts/env.sh
infra/docker/engine.sh
commit="$(current_commit)" || die "this folder is not a git checkout, so its commit's images can't be named"
rm -f "$PULLED"
while read -r _ reference; do
  shared="${reference%:*}:$commit"
  say "pulling $shared"
  docker pull --quiet "$shared" >/dev/null ||
    die "$shared could not be pulled; make push shares the images of a commit, or build them here: make build"
  docker tag "$shared" "$reference"
done < <(one_per_image "$@")
printf '%s\n' "$commit" >"$PULLED"
tree_is_clean || warn "there are local edits, so make up builds the images all the same"
say "the images of commit $commit are here; make up starts them"

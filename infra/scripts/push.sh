#!/usr/bin/env bash
# push.sh SERVICE...: shares the images of those services through IMAGE_REGISTRY, tagged with the commit that they were
# built from. A published tag is never overwritten.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/images.sh"

commit="$(current_commit)" || die "this folder is not a git checkout, so the images have no commit to be tagged with"
tree_is_clean || die "there are uncommitted edits; commit them, make build, then make push"
while read -r _ reference; do
  published="${reference%:*}:$commit"
  if docker manifest inspect "$published" >/dev/null 2>&1; then
    say "$published is published already"
    continue
  fi
  docker tag "$reference" "$published"
  say "pushing $published"
  docker push --quiet "$published" >/dev/null || die "$published could not be pushed; docker login, or correct IMAGE_REGISTRY in .env"
done < <(one_per_image "$@")

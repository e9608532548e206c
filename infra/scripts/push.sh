#!/usr/bin/env bash
# push.sh SERVICE...: shares the images of those services through IMAGE_REGISTRY, tagged with the commit that they are
# built from. What is published already is never overwritten.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/images.sh"

commit="$(current_commit)" || die "this folder is not a git checkout, so the images have no commit to be tagged with"
tree_is_clean || die "there are uncommitted edits; commit them first, since an image is named by its commit"
infra/scripts/env.sh
infra/docker/engine.sh
# Only what changed since the last build is built.
infra/docker/build.sh "$@"
while read -r _ reference; do
  shared="${reference%:*}:$commit"
  if published "$shared"; then
    say "$shared is published already"
    continue
  fi
  say "pushing $shared"
  docker tag "$reference" "$shared"
  docker push --quiet "$shared" >/dev/null || die "$shared could not be pushed; docker login, or correct IMAGE_REGISTRY in .env"
done < <(one_per_image "$@")

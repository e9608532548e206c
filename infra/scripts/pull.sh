#!/usr/bin/env bash
# pull.sh SERVICE...: takes the images of the commit that is checked out from IMAGE_REGISTRY; make up then builds none.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/images.sh"

commit="$(current_commit)" || die "this folder is not a git checkout, so its commit's images can't be named"
rm -f "$PULLED"
while read -r _ reference; do
  published="${reference%:*}:$commit"
  say "pulling $published"
  docker pull --quiet "$published" >/dev/null ||
    die "$published could not be pulled; make push publishes the images of a commit, or build them here: make build"
  docker tag "$published" "$reference"
done < <(one_per_image "$@")
printf '%s\n' "$commit" >"$PULLED"
say "the images of commit $commit are here; make up starts them"

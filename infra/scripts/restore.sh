#!/usr/bin/env bash
# Restores the backup in the folder FROM into a stack without data; its .env replaces the present one.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/archive.sh"

FROM="${FROM:-}"
[[ -n "$FROM" && -f "$FROM/env" ]] || die "where from? make restore FROM=/path/to/a/folder that make backup has written"
folder="$(cd "$FROM" && pwd)"
say "checking the backup"
check_manifest "$folder"
# A new machine has no engine yet, and a new clone no .env.
infra/docker/engine.sh
prefix="$(project_name "$folder/env")"
[[ -z "$(docker volume ls --quiet --filter "label=com.docker.compose.project=$prefix")" ]] ||
  die "this stack has data; a restore would mix both. Keep it with make backup, or delete it with make clean, then: make restore FROM=$FROM"
if [[ -f .env ]] && ! cmp --silent .env "$folder/env"; then
  cp --preserve=mode .env .env.before-restore
  say "the .env that was here is .env.before-restore"
fi
(umask 077 && cp "$folder/env" .env)

tar_image="$(archive_image)" || { infra/docker/base.sh && tar_image="$(image base)"; }
for archive in "$folder"/*.tar.gz; do
  volume="$(basename "$archive" .tar.gz)"
  say "  $volume"
  # With the labels that Compose gives its own, so that it takes them for its own.
  docker volume create --label "com.docker.compose.project=$prefix" --label "com.docker.compose.volume=$volume" \
    "${prefix}_$volume" >/dev/null
  gunzip -c "$archive" | docker run --rm --interactive --network none --user 0 --volume "${prefix}_$volume:/volume" \
    "$tar_image" tar -C /volume --numeric-owner -xpf - ||
    die "$volume was not restored completely; is the disk full? make clean deletes what was restored, then try again"
done
say "restored; start the stack: make up"

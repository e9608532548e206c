#!/usr/bin/env bash
# Writes every volume of the stack as an archive into the folder TO, and .env, whose secrets belong to them. The stack is
# stopped first, so that offsets, checkpoints and tables are consistent, and what ran is started again at the end, whatever
# happened. SHA256SUMS is written last: a folder without it is no backup.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/archive.sh"

TO="${TO:-}"
[[ -n "$TO" ]] || die "where to? make backup TO=/path/to/a/folder"
mkdir -p "$TO"
folder="$(cd "$TO" && pwd)"
[[ -z "$(ls -A "$folder")" ]] || die "$folder is not empty; name a new folder for each backup"
tar_image="$(archive_image)" || die "there are no images; nothing was ever started here: make up"

mapfile -t running < <(docker compose ps --services --status running)
start_again() {
  ((${#running[@]} == 0)) || docker compose --progress quiet start "${running[@]}" || warn "start the stack again: make up"
}
trap start_again EXIT
say "stopping the stack"
docker compose --progress quiet stop
umask 077
cp .env "$folder/env"
prefix="$(project_name .env)"
for volume in $(docker compose config --volumes | sort); do
  docker volume inspect "${prefix}_$volume" >/dev/null 2>&1 || continue
  say "  $volume"
  # As root in a container without a network: each service's files belong to that service's user.
  docker run --rm --network none --user 0 --volume "${prefix}_$volume:/volume:ro" "$tar_image" \
    tar -C /volume --numeric-owner -cf - . | gzip -1 >"$folder/$volume.tar.gz" ||
    die "$volume was not written completely, so $folder is no backup; is the disk full? Delete it and try again"
done
write_manifest "$folder"
say "$(du -sh "$folder" | cut -f1) in $folder; what ran before is started again"

#!/usr/bin/env bash
# Writes every volume of the stack as an archive into the folder TO, and .env, whose secrets belong to them. The services
# are stopped first, so that offsets, checkpoints and tables are consistent; the stores last, once they have said what
# they have. What ran is started again, whatever happened. SHA256SUMS is written last: a folder without it is no backup.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/archive.sh"
source "$(dirname "${BASH_SOURCE[0]}")/counts.sh"

TO="${TO:-}"
[[ -n "$TO" ]] || die "where to? make backup TO=/path/to/a/folder"
mkdir -p "$TO"
folder="$(cd "$TO" && pwd)"
[[ -z "$(ls -A "$folder")" ]] || die "$folder is not empty; name a new folder for each backup"
tar_image="$(archive_image)" || die "there are no images; nothing was ever started here: make up"
prefix="$(project_name .env)"
mapfile -t volumes < <(
  for volume in $(docker compose config --volumes | sort); do
    if docker volume inspect "${prefix}_$volume" >/dev/null 2>&1; then echo "$volume"; fi
  done
)
((${#volumes[@]} > 0)) || die "the stack has no data: there is nothing to back up"

mapfile -t running < <(docker compose ps --services --status running)
stopped=0 complete=0

start_again() {
  ((stopped)) || return 0
  stopped=0
  ((${#running[@]} > 0)) || return 0
  # `start` refuses if the container of a step that comes before is gone (docker container prune); `up` makes it again.
  docker compose --progress quiet start "${running[@]}" ||
    docker compose --progress quiet up --detach --no-build --no-recreate "${running[@]}" ||
    warn "start the stack again: make up"
}

# Whatever happened, the stack runs again. Before that, what is written of a backup that failed is deleted: where the
# stack's own disk is full, it could not start.
finish() {
  local status=$?
  trap '' HUP INT TERM
  set +e
  if ((!complete)); then
    rm -f "$folder"/{env,counts,"$MANIFEST","$CHECKSUMS","$CHECKSUMS.new"} "$folder"/*.tar.gz
    warn "there is no backup in $folder; what was written of it is deleted"
    ((!stopped)) || say "starting what ran before"
  fi
  start_again
  exit "$status"
}
trap finish EXIT

too_full() {
  die "$1 could not be written to $folder, where $(df -Ph "$folder" | awk 'NR == 2 {print $4}') are free. If the disk is \
full, free some space or name a folder elsewhere, then try again"
}

umask 077
say "stopping everything but the stores, which are counted"
stopped=1
mapfile -t others < <(printf '%s\n' "${running[@]}" | grep -vxF "$(stores)" | grep . || true)
((${#others[@]} == 0)) || docker compose --progress quiet stop "${others[@]}"
counted="$(counts)"
printf '%s' "${counted:+$counted$'\n'}" >"$folder/counts" || too_full counts
say "stopping the stores"
docker compose --progress quiet stop
cp .env "$folder/env" || too_full .env
for volume in "${volumes[@]}"; do
  say "  $volume"
  pack "${prefix}_$volume" "$folder/$volume.tar.gz" || too_full "$volume"
done
say "starting what ran before, and writing the checksums"
start_again
write_manifest "$folder" || too_full "the manifest"
complete=1
say "$(du -sh "$folder" | cut -f1) in $folder; try it out: make restore-drill FROM=$folder"

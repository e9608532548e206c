#!/usr/bin/env bash
# Sourced by backup, restore and the restore drill: what makes a folder a complete backup, and volumes from and to
# archives. A backup has
#
#     env              the settings, whose secrets belong to the volumes
#     VOLUME.tar.gz    for each volume
#     counts           what each store said that it has, a line each: store, what, count
#     manifest         release, versions, and a line for each volume with a checksum of its content
#     SHA256SUMS       a checksum of each of these files, the manifest's first; written last
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

CHECKSUMS=SHA256SUMS
MANIFEST=manifest
# The image whose tar reads and writes volumes; the script that sources this sets it.
tar_image=""

# archive_image: an image of ours that is here; each has tar. Fails if there is none.
archive_image() {
  local name
  for name in base kafka; do
    if docker image inspect "$(image "$name")" >/dev/null 2>&1; then
      image "$name"
      return
    fi
  done
  return 1
}

# The files of a volume as a tar stream, which is the same for the same content, owners, modes and times. As root in a
# container without a network: each service's files belong to that service's user.
stream_of_volume() {
  docker run --rm --network none --user 0 --volume "$1:/volume:ro" "$tar_image" \
    tar -C /volume --format gnu --sort name --numeric-owner -cf - .
}

# pack VOLUME ARCHIVE
pack() { stream_of_volume "$1" | gzip -1 >"$2"; }

# unpack ARCHIVE VOLUME
unpack() {
  gunzip -c "$1" | docker run --rm --interactive --network none --user 0 --volume "$2:/volume" "$tar_image" \
    tar -C /volume --numeric-owner -xpf -
}

# The checksum of a volume's content: of its tar stream.
checksum() { sha256sum | cut -d ' ' -f 1; }
content_of_archive() { gunzip -c "$1" | checksum; }
content_of_volume() { stream_of_volume "$1" | checksum; }

# write_manifest FOLDER: release, versions and volumes, then a checksum for each file. SHA256SUMS is renamed into place,
# so that it is complete or missing.
write_manifest() {
  local text archive content
  text="$(printf 'format 2\ncreated %s\ncommit %s\n' "$(date -u +%FT%TZ)" "$(release)" && versions)"
  for archive in "$1"/*.tar.gz; do
    content="$(content_of_archive "$archive")" || return
    text+=$'\n'"volume $(basename "$archive" .tar.gz) content $content"
  done
  printf '%s\n' "$text" >"$1/$MANIFEST" || return
  (cd "$1" && sha256sum "./$MANIFEST" ./env ./counts ./*.tar.gz >"$CHECKSUMS.new" && sync && mv "$CHECKSUMS.new" "$CHECKSUMS")
}

# from_manifest FOLDER NAME: the values of the lines that begin with this name.
from_manifest() { sed -n "s/^$2 //p" "$1/$MANIFEST"; }
volumes_in() { from_manifest "$1" volume | cut -d ' ' -f 1; }
# content_in FOLDER VOLUME: the checksum of its content; nothing in a backup of an earlier release.
content_in() { [[ ! -f "$1/$MANIFEST" ]] || from_manifest "$1" volume | sed -n "s/^$2 content //p"; }

# has_line LINES LINE
has_line() { grep -qxF -- "$2" <<<"$1"; }

# missing_from FOLDER: what a backup whose files are as their checksums say still lacks, or has too much.
missing_from() {
  local folder="$1" listed volume archive
  listed="$(sed -E 's,^[0-9a-f]+ [ *](\./)?,,' "$folder/$CHECKSUMS")"
  has_line "$listed" env || printf '%s\n' "$CHECKSUMS has no line for env: it is incomplete"
  if has_line "$listed" "$MANIFEST"; then
    for volume in $(volumes_in "$folder"); do
      has_line "$listed" "$volume.tar.gz" || printf '%s\n' "$CHECKSUMS has no line for $volume.tar.gz: it is incomplete"
    done
  elif [[ -f "$folder/$MANIFEST" ]]; then
    printf '%s\n' "$CHECKSUMS has no line for $MANIFEST: it is incomplete"
  fi
  for archive in "$folder"/*.tar.gz; do
    archive="$(basename "$archive")"
    has_line "$listed" "$archive" || printf '%s\n' "$archive is not part of this backup: $CHECKSUMS has no line for it"
  done
}

# check_backup FOLDER: dies unless every file of the backup is there as it was written.
check_backup() {
  local folder="$1" problems
  [[ -d "$folder" ]] || die "$folder is no folder"
  [[ -f "$folder/$CHECKSUMS" ]] || die "$folder has no $CHECKSUMS, which is written last: the backup did not end, or an \
earlier release wrote it. In that case, check that every volume has an archive there, and run in that folder: \
sha256sum env ./*.tar.gz >$CHECKSUMS"
  problems="$(cd "$folder" && LC_ALL=C sha256sum --check --quiet --strict "$CHECKSUMS" 2>&1)" || true
  problems+="$(missing_from "$folder")"
  [[ -z "$problems" ]] || die "the backup in $folder is damaged or incomplete; nothing was restored:
$problems"
  [[ -f "$folder/$MANIFEST" ]] ||
    warn "an earlier release wrote this backup: its volumes are restored, but can't be compared afterwards"
}

# check_release FOLDER: dies if this checkout can't use the backup's data. FORCE=1 accepts one of another line of commits.
check_release() {
  local folder="$1" commit postgres here
  [[ -f "$folder/$MANIFEST" ]] || return 0
  commit="$(from_manifest "$folder" commit)" commit="${commit%% *}"
  if [[ -z "${FORCE:-}" && "$commit" != unknown ]] && git rev-parse --verify --quiet HEAD >/dev/null &&
    ! git merge-base --is-ancestor "$commit" HEAD 2>/dev/null; then
    die "the backup is of commit $commit, which is not part of this checkout: it may be of a newer release. git pull, or \
git checkout $commit; FORCE=1 restores it all the same"
  fi
  postgres="$(from_manifest "$folder" postgres)" here="$(postgres_major)"
  [[ -z "$postgres" || "${postgres%%.*}" == "$here" ]] ||
    die "the backup is of Postgres $postgres, and this release has Postgres $here, which can't read its files: git \
checkout ${commit:0:12}"
}

# restore_volumes FOLDER PROJECT: each volume of the backup as one of that Compose project, and compares its content with
# the manifest. The names of the volumes that it has made are in `restored`, also when it dies; in `contents`, by volume,
# the checksums of what is in them now.
restored=()
declare -A contents
restore_volumes() {
  local folder="$1" project="$2" archive volume expected
  for archive in "$folder"/*.tar.gz; do
    volume="$(basename "$archive" .tar.gz)"
    say "  $volume"
    # With the labels that Compose gives its own, so that it takes them for its own.
    docker volume create --label "com.docker.compose.project=$project" --label "com.docker.compose.volume=$volume" \
      "${project}_$volume" >/dev/null
    restored+=("${project}_$volume")
    unpack "$archive" "${project}_$volume" || die "$volume could not be written; is the disk full?"
    expected="$(content_in "$folder" "$volume")"
    [[ -n "$expected" ]] || continue
    contents[$volume]="$(content_of_volume "${project}_$volume")"
    [[ "${contents[$volume]}" == "$expected" ]] ||
      die "$volume differs from the backup after it was written: does the disk report errors?"
  done
}

#!/usr/bin/env bash
# Sourced by backup and restore: what makes a folder a complete backup, and what has tar.

MANIFEST=SHA256SUMS

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

# write_manifest FOLDER: a checksum for each file; renamed into place, so that it is complete or missing.
write_manifest() {
  (cd "$1" && sha256sum env ./*.tar.gz >"$MANIFEST.new" && sync && mv "$MANIFEST.new" "$MANIFEST")
}

# check_manifest FOLDER: dies unless every file of the backup is there as it was written.
check_manifest() {
  local problems
  [[ -f "$1/$MANIFEST" ]] || die "$1 has no $MANIFEST: the backup did not end, or an earlier release wrote it. In that \
case, check that every volume has an archive there, and run in that folder: sha256sum env ./*.tar.gz >$MANIFEST"
  problems="$(cd "$1" && sha256sum --check --quiet "$MANIFEST" 2>&1)" ||
    die "the backup in $1 is damaged or incomplete; nothing was restored:
$problems"
}

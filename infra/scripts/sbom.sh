#!/usr/bin/env bash
# sbom.sh SERVICE...: the bill of materials of each image of those services as CycloneDX JSON in reports/sbom/, and the
# page of licences in docs/licences.md. Reads the images that are here; nothing of them runs.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"

# sbom ARGUMENT...: the program, in an image that has Python.
sbom() { docker run --rm --interactive --network none --volume "$ROOT:/repo:ro" --workdir /repo "$(image python)" python3 -B infra/sbom/sbom.py "$@"; }

infra/scripts/env.sh
mapfile -t images < <(one_per_image "$@")
rm -rf reports/sbom
mkdir -p reports/sbom
number=0
for line in "${images[@]}"; do
  reference="${line#* }" number=$((number + 1))
  name="$(basename "${reference%:*}")"
  id="$(docker image inspect --format '{{.Id}}' "$reference" 2>/dev/null)" || die "there is no image $reference here; build it first: make build"
  say "  $number of ${#images[@]}: $name"
  container="$(docker create "$reference")"
  status=0
  docker export "$container" | sbom image "$name" "$id" >"reports/sbom/$name.cdx.json" || status=$?
  docker rm "$container" >/dev/null
  ((status == 0)) || die "$name could not be read; the reason is above"
done
# Renamed into place, so that a failure leaves the page that is there.
sbom page "$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)" reports/sbom/*.cdx.json >reports/sbom/licences.md
mv reports/sbom/licences.md docs/licences.md
say "${#images[@]} bills of materials in reports/sbom/, and the licences in docs/licences.md"

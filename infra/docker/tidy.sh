#!/usr/bin/env bash
# Frees what earlier builds have left if disk space is short: engines before 23 keep every layer that they ever built
# until they are asked to remove it. Nothing that is in use, and no volume, is touched.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

KEPT_CACHE=25GB # what building all images once leaves is 23 GB

before="$(docker_disk_gib)"
[[ -n "$before" ]] && ((before < DISK_GIB_WANTED)) && docker version >/dev/null 2>&1 || exit 0
say "$before GiB are free on the disk: removing what earlier builds of ours have left, and build cache beyond $KEPT_CACHE"
# Superseded images have no name any more; the label keeps those of other projects out of it.
docker image prune --force --filter label=fraud-platform >/dev/null
docker builder prune --force --keep-storage "$KEPT_CACHE" >/dev/null ||
  warn "the build cache was not pruned; see the engine's reason above"
say "  $(docker_disk_gib) GiB are free now"

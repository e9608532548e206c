#!/usr/bin/env bash
# power_drill.sh: kill -9 of the API under load on a disk of its own, and the disk as a power cut would leave it: what the
# file system had written to the device by then, nothing of what was only in memory. Needs root, for mount.
#
# The disk is an ext4 image on a loop device. Its file is copied while it is mounted; the copy is mounted in turn, which
# replays ext4's journal, and the predictions in it are compared with those that clients were answered. Prints one line of
# JSON for AUDIT_FSYNC=on and one for off. Not simulated: a disk with a cache that lies about syncs.
source "$(dirname "${BASH_SOURCE[0]}")/../../infra/docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../../infra/scripts/own_stack.sh"

[[ "$(id -u)" == 0 ]] || die "mounting a disk needs root: sudo phase4-ml/bench/power_drill.sh"
infra/scripts/env.sh
infra/docker/engine.sh
infra/docker/build.sh
build_test_images fraud-api
work="$(mktemp -d)"
container="power-drill-$$"
tidy() {
  docker rm --force "$container" >/dev/null 2>&1 || true
  for place in "$work/disk" "$work/after"; do umount --lazy "$place" 2>/dev/null || true; done
  rm -rf "$work"
}
trap tidy EXIT

# drill on|off: one line of JSON.
drill() {
  rm -f "$work"/*.img
  mkdir -p "$work/disk" "$work/after" "$work/clients"
  truncate --size 256M "$work/disk.img"
  mkfs.ext4 -q -F "$work/disk.img"
  mount -o loop "$work/disk.img" "$work/disk"
  docker run --detach --name "$container" --network none "${checkout_options[@]}" --volume "$work/disk:/state" \
    --volume "$work/clients:/clients" --env "AUDIT_FSYNC=$1" "$(image fraud-api-test)" \
    python3 phase4-ml/bench/power_drill.py load /state /clients/answered >/dev/null
  until [[ -e "$work/clients/enough" ]]; do
    docker container inspect --format '{{.State.Running}}' "$container" | grep -qx true || die "$(docker logs "$container" 2>&1 | tail)"
    sleep 0.1
  done
  docker kill --signal KILL "$container" >/dev/null
  cp --sparse=always "$work/disk.img" "$work/after.img"
  docker rm --force "$container" >/dev/null
  umount "$work/disk"
  mount -o loop "$work/after.img" "$work/after"
  run_on_drill "$1"
  umount "$work/after"
  rm -rf "$work/clients"
}

run_on_drill() {
  docker run --rm --network none "${checkout_options[@]}" --volume "$work/after:/state" --volume "$work/clients:/clients" \
    "$(image fraud-api-test)" python3 phase4-ml/bench/power_drill.py count /state /clients/answered "$1"
}

drill on
drill off

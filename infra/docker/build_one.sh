#!/usr/bin/env bash
# build_one.sh NAME COMMAND...: runs the command that builds this image, with the shell's proxy as build arguments. Prints
# one line when it starts, one if it took long, and the end of its log if it fails; reports/build-NAME.log has all of it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/images.sh"

name="$1" log="reports/build-$1.log"
shift
mkdir -p reports
mapfile -t proxy_arguments < <(proxy_build_arguments)
say "building image $name"
"$@" "${proxy_arguments[@]}" >"$log" 2>&1 </dev/null || {
  { tail -n 40 "$log" && warn "image $name could not be built; the whole log is in $log"; } >&2
  # xargs starts no further builds then.
  exit 255
}
((SECONDS < 5)) || say "  $name took $SECONDS s"

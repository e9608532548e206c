#!/usr/bin/env bash
# Builds fraud-platform/base, the image that all others are FROM. Its own parent, debian:trixie-slim, is the one seam
# to the outside: the local copy is used, else it is pulled, else it is made from Debian's packages with mmdebstrap.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/images.sh"

SEAM=debian:trixie-slim

have_seam() { docker image inspect "$SEAM" >/dev/null 2>&1; }

pull_seam() {
  # A closed network that drops packets must not stall the build.
  timeout 120 docker pull --quiet "$SEAM" >/dev/null 2>&1
}

make_seam() {
  if ! command -v mmdebstrap >/dev/null; then
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
      die "no registry gives $SEAM and mmdebstrap is not installed. Install mmdebstrap (Debian/Ubuntu), or load the image with 'docker load', then run the same command again."
    fi
    say "installing mmdebstrap"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
  fi
  say "no registry gives $SEAM: making it from Debian's packages (about 20 s)"
  # Documentation and translations are left out, as the official slim image does.
  mmdebstrap --quiet --variant=minbase \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    trixie - | docker import --change 'CMD ["bash"]' - "$SEAM" >/dev/null
}

build_base() {
  local context log=reports/build-base.log folder
  local -a proxy_arguments
  mapfile -t proxy_arguments < <(proxy_build_arguments)
  mkdir -p reports
  context="$(mktemp -d)"
  trap 'rm -rf "$context"' RETURN
  # Whatever the checkout's umask: every container runs it as a user of its own.
  install -m 755 infra/base/healthy "$context/healthy"
  mkdir "$context/certificates"
  # This machine's private certificate authorities (Debian's folder, Red Hat's), for networks whose proxy intercepts TLS.
  for folder in /usr/local/share/ca-certificates /etc/pki/ca-trust/source/anchors; do
    find "$folder" \( -name '*.crt' -o -name '*.pem' \) -exec sh -c 'cp "$1" "$2/$(basename "${1%.*}").crt"' _ {} "$context/certificates" \; 2>/dev/null || true
  done
  touch "$context/certificates/.keep"
  chmod -R a+rX "$context"
  docker build --progress plain --file infra/base/Dockerfile --tag "$(image base)" "${proxy_arguments[@]}" "$context" >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    die "image base could not be built; the whole log is in $log"
  }
}

have_seam || pull_seam || make_seam
build_base

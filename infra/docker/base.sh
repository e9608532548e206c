#!/usr/bin/env bash
# Builds fraud-platform/base, the image that all others are FROM. Its own parent, debian:trixie-slim, is the one seam
# to the outside: the local copy is used, else it is pulled, else it is made from Debian's packages with mmdebstrap.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SEAM=debian:trixie-slim

have_seam() { docker image inspect "$SEAM" >/dev/null 2>&1; }

pull_seam() {
  # A closed network that drops packets must not stall the build.
  timeout 120 docker pull --quiet "$SEAM" >/dev/null 2>&1
}

make_seam() {
  if ! command -v mmdebstrap >/dev/null; then
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
      die "no registry has $SEAM and mmdebstrap is not installed. Install mmdebstrap (Debian/Ubuntu), or load the image with 'docker load', then run the same command again."
    fi
    say "installing mmdebstrap"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
  fi
  say "no registry has $SEAM: making it from Debian's packages (about 20 s)"
  # Documentation and translations are left out, as the official slim image does.
  mmdebstrap --quiet --variant=minbase \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    trixie - | docker import --change 'CMD ["bash"]' - "$SEAM" >/dev/null
}

# This machine's private certificate authorities (Debian's folder, Red Hat's), for networks whose proxy intercepts TLS.
copy_certificates() {
  local file
  for file in /usr/local/share/ca-certificates/{,*/}*.crt /etc/pki/ca-trust/source/anchors/*.{crt,pem}; do
    [[ ! -f "$file" ]] || install -m 644 "$file" "$1/$(basename "${file%.*}").crt"
  done
}

build_base() {
  local context
  context="$(mktemp -d)"
  trap 'rm -rf "$context"' RETURN
  # The build cache compares modes.
  umask 022
  mkdir "$context/certificates"
  touch "$context/certificates/.keep"
  copy_certificates "$context/certificates"
  install -m 755 infra/base/healthy "$context"
  infra/docker/build_one.sh base \
    docker build --progress plain --file infra/base/Dockerfile --tag "$(image base)" "$context" || exit 1
}

have_seam || pull_seam || make_seam
build_base

#!/usr/bin/env bash
# Makes sure that a Docker engine and Compose v2 answer. Where they do, it changes nothing; on a Debian or Ubuntu
# machine as root it installs what is missing from the distribution's packages and starts the daemon.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
# 2.20 is the first Compose that has every option used in docker-compose.yml.
compose_answers() { [[ "$(docker compose version --short 2>/dev/null)" =~ ^v?(2\.[2-9][0-9]|[3-9]\.|[1-9][0-9]+\.) ]]; }
buildx_answers() { docker buildx version >/dev/null 2>&1; }
all_answer() { engine_answers && compose_answers && buildx_answers; }

require_debian_root() {
  local why="$1"
  [[ "$(id -u)" == 0 ]] || die "$why. Start Docker, or run this once as root, then run the same command again."
  command -v apt-get >/dev/null ||
    die "$why. Install Docker Engine with the Compose and Buildx plugins from your system's packages, start it, then run the same command again."
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

candidate() { apt-cache policy "$1" | awk '/Candidate:/ {print $2}'; }

# Debian 12 has no Compose v2 package. Trixie's needs nothing but libc >= 2.34, so it installs there; the pin keeps
# every other package of the machine where it is. The mirror is the one that the machine already uses.
add_trixie_source() {
  local entry=/etc/apt/sources.list.d/fraud-platform-trixie.sources uris keyring
  # shellcheck disable=SC2016 # apt-get expands it
  uris="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)"
  [[ -n "$uris" ]] || die "no Debian mirror is set up for apt; add one, then run the same command again"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  say "Compose v2 is not in this Debian release: adding trixie as a source for docker-compose and docker-buildx only ($entry)"
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$uris" "$keyring" >"$entry"
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: -1\n\nPackage: docker-compose docker-buildx\nPin: release n=trixie\nPin-Priority: 500\n' \
    >/etc/apt/preferences.d/fraud-platform-trixie
  apt-get update -qq
}

install_packages() {
  local compose=docker-compose-v2
  require_debian_root "no Docker engine with Compose v2 and Buildx answers"
  say "installing the Docker engine, Compose v2 and Buildx from the distribution's packages"
  apt-get update -qq
  if [[ "$(candidate docker-compose-v2)" =~ ^(\(none\))?$ ]]; then # Ubuntu has docker-compose-v2, Debian docker-compose
    compose=docker-compose
    [[ "$(candidate docker-compose)" == 1.* ]] && add_trixie_source
  fi
  engine_installed || apt_install docker.io iptables
  compose_answers || apt_install "$compose"
  buildx_answers || apt_install docker-buildx
}

engine_installed() { command -v dockerd >/dev/null; }

# The bridge must not send larger packets than the way out takes, or downloads in a build hang.
route_mtu() {
  local device
  device="$(ip -o route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)"
  cat "/sys/class/net/${device:-none}/mtu" 2>/dev/null || echo 1500
}

start_daemon() {
  require_debian_root "the Docker daemon is installed but does not answer"
  if [[ -d /run/systemd/system ]]; then
    say "starting the Docker daemon (systemd)"
    systemctl enable --now docker >/dev/null
  else
    local mtu log=/var/log/dockerd.log
    mtu="$(route_mtu)"
    say "starting the Docker daemon in the background (MTU $mtu, log in $log)"
    rm -f /var/run/docker.pid
    setsid nohup dockerd --mtu "$mtu" >>"$log" 2>&1 </dev/null &
  fi
  for _ in $(seq 60); do
    engine_answers && return
    sleep 1
  done
  die "the Docker daemon did not answer within 60 s; its last lines:
$(tail -n 5 /var/log/dockerd.log 2>/dev/null || journalctl -u docker -n 5 2>/dev/null)"
}

main() {
  if [[ -n "${DOCKER_HOST:-}" ]]; then
    engine_answers || die "DOCKER_HOST=$DOCKER_HOST does not answer; start that engine or unset DOCKER_HOST"
  fi
  all_answer && return
  if ! { engine_installed || engine_answers; } || ! compose_answers || ! buildx_answers; then install_packages; fi
  engine_answers || start_daemon
  all_answer || die "Docker answers, but Compose v2 (2.20 or newer) or Buildx does not: $(docker compose version 2>&1 | head -n 1)"
  say "Docker $(docker version --format '{{.Server.Version}}') with Compose $(docker compose version --short) is ready"
}

main "$@"

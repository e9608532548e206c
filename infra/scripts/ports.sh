#!/usr/bin/env bash
# Tries every published port of the stack that runs here without credentials, from this machine, and prints what each
# gives. docs/security.md has the table with what follows from it.
# shellcheck disable=SC2016 # Go's template has variables of its own
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

format='{{$service := index .Config.Labels "com.docker.compose.service"}}'
format+='{{range $port, $hosts := .NetworkSettings.Ports}}{{range $hosts}}'
format+='{{$service}} {{$port}} {{.HostIp}} {{.HostPort}}{{println}}{{end}}{{end}}'
published="$(docker compose ps --quiet | xargs -r docker inspect --format "$format" | grep . || true)"
options=()
[[ -z "$(env_value API_KEY)" ]] || options+=(--api-has-keys)
# In the network of this machine, since that is where the ports are.
docker run --rm --interactive --network host --volume "$ROOT/infra/e2e/ports.py:/ports.py:ro" "$(image ingestion)" \
  python3 /ports.py "${options[@]}" <<<"$published" ||
  die "a port gives something else than it should, or was not reached; see above"

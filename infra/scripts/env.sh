#!/usr/bin/env bash
# Makes .env from .env.example when there is none, with random secrets. An existing .env is never overwritten; settings
# that a newer .env.example has and .env lacks are added at its end.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

secret() { od -vAn -N24 -tx1 /dev/urandom | tr -d ' \n'; }

with_secrets() {
  local line
  while IFS= read -r line || [[ -n "$line" ]]; do
    [[ "$line" != *=insecure-dev-default ]] || line="${line%%=*}=$(secret)"
    printf '%s\n' "$line"
  done
}

if [[ ! -f .env ]]; then
  (umask 077 && with_secrets <.env.example >.env)
  say "made .env from .env.example"
  exit
fi
missing="$(grep -E '^[A-Z][A-Z0-9_]*=' .env.example | while IFS= read -r line; do
  grep -qE "^${line%%=*}=" .env || printf '%s\n' "$line"
done)"
if [[ -n "$missing" ]]; then
  { printf '\n# Added from a newer .env.example\n'; with_secrets <<<"$missing"; } >>.env
  say "added to .env: $(cut -d= -f1 <<<"$missing" | paste -sd ' ')"
fi

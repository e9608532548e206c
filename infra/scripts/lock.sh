#!/usr/bin/env bash
# Writes every requirements.txt from its requirements.in: exact versions with hashes, no addresses. Pins that are there
# stay as they are; UPGRADE=1 takes the newest versions instead. Arguments name single .in files.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

mapfile -t inputs < <(if [[ $# -gt 0 ]]; then printf '%s\n' "$@"; else git ls-files '*requirements.in' '*requirements-test.in' | sort -r; fi)
for input in "${inputs[@]}"; do
  say "locking $input"
  (
    cd "$(dirname "$input")"
    docker run --rm --user 0 --volume "$PWD:/lock" --workdir /lock "$(image python-build)" \
      uv pip compile --quiet ${UPGRADE:+--upgrade} --generate-hashes --no-emit-index-url --python-version 3.13 \
      --custom-compile-command 'make lock' --output-file "$(basename "$input" .in).txt" "$(basename "$input")"
  )
done

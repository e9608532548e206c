#!/usr/bin/env bash
# Creates .env from .env.example with random secrets if there is none. An existing .env keeps its values: settings that a
# newer .env.example has are added at its end, renamed ones are carried over, old pins of images lose their effect, and
# memory limits that are too low for other settings are raised.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/env_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/memory_limits.sh"

if [[ ! -f .env ]]; then
  (umask 077 && with_secrets <.env.example >.env)
  say "created .env from .env.example, with random secrets"
fi
carry_over_renamed .env
drop_pins .env
add_missing .env .env.example
raise_memory_limits .env

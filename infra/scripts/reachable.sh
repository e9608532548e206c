#!/usr/bin/env bash
# Sourced by doctor.sh: can clients outside the stack reach Kafka at the address that it gives them? It needs settings.sh.

is_loopback() { [[ "$1" == localhost || "$1" == 127.* || "$1" == ::1 || "$1" == "[::1]" ]]; }

# kafka_address_complaint: what is wrong with the two addresses, and the next step; nothing if they fit.
kafka_address_complaint() {
  local bind advertised
  bind="$(env_value BIND_ADDRESS)" advertised="$(env_value KAFKA_ADVERTISED_HOST)"
  advertised="${advertised:-localhost}"
  if ! is_loopback "$bind" && is_loopback "$advertised"; then
    printf 'BIND_ADDRESS=%s lets other machines in, but Kafka sends them to KAFKA_ADVERTISED_HOST=%s, which is themselves; %s' \
      "$bind" "$advertised" "set it in .env to this machine's name or address as they know it"
  elif is_loopback "$bind" && ! is_loopback "$advertised"; then
    printf 'Kafka sends clients to KAFKA_ADVERTISED_HOST=%s, but BIND_ADDRESS=%s listens on this machine only; %s' \
      "$advertised" "$bind" "set one of them in .env"
  fi
}

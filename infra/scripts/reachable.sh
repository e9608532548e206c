#!/usr/bin/env bash
# Sourced by doctor.sh and by scripts that print or use addresses: who reaches the stack, and is it fit for that? Each
# complaint is a line with what is wrong and the next step. It needs settings.sh.

is_loopback() { [[ "$1" == localhost || "$1" == 127.* || "$1" == ::1 || "$1" == "[::1]" ]]; }

# host_of SETTING: where this machine reaches a port that listens at the address in this setting.
host_of() {
  local address
  address="$(env_value "$1")"
  case "$address" in
  "" | 0.0.0.0 | 127.0.0.1 | :: | ::1 | "[::]" | "[::1]") printf localhost ;;
  \[*) printf '%s' "$address" ;;
  *:*) printf '[%s]' "$address" ;;
  *) printf '%s' "$address" ;;
  esac
}

# api_url: the API's address on this machine.
api_url() {
  if [[ -n "$(env_value TLS_CERTIFICATE)" ]]; then
    printf 'https://%s:%s' "$(host_of BIND_ADDRESS)" "$(env_value API_TLS_PORT)"
  else
    printf 'http://%s:%s' "$(host_of BIND_ADDRESS)" "$(env_value API_PORT)"
  fi
}

# open_settings: the settings that let other machines in, with their values; nothing if none does.
open_settings() {
  local name
  for name in BIND_ADDRESS NO_LOGIN_BIND_ADDRESS; do
    is_loopback "$(env_value "$name")" || printf '%s=%s\n' "$name" "$(env_value "$name")"
  done
}

# bind_complaints: which of the addresses Docker would not take; its own message doesn't name the setting.
bind_complaints() {
  local name address byte='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'
  for name in BIND_ADDRESS NO_LOGIN_BIND_ADDRESS; do
    address="$(env_value "$name")"
    [[ -z "$address" || "$address" =~ ^$byte(\.$byte){3}$ || "$address" =~ ^\[[0-9A-Fa-f:.]+\]$ ]] ||
      echo "$name=$address is not an address like 127.0.0.1, 0.0.0.0 or [::1] (with brackets); correct it in .env"
  done
}

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

MINIMUM_SECRET=8

# secret_names: the settings whose value only the operator may know: those that .env.example has a value for, and the
# key that it leaves out.
secret_names() {
  sed -nE 's/^([A-Z][A-Z0-9_]*(_PASSWORD|_SECRET|_KEY))=.+/\1/p' "$ROOT/.env.example"
  echo API_KEY
}

# weak_secrets: a line for each secret that others may know or guess: its name, and why. It never prints a value.
weak_secrets() {
  local name value part
  local -A SETTINGS example
  local -a parts
  read_settings "$ROOT/.env.example"
  for name in "${!SETTINGS[@]}"; do example[$name]="${SETTINGS[$name]}"; done
  for name in $(secret_names); do
    value="$(env_value "$name")"
    if [[ -z "${value//[, ]/}" ]]; then
      echo "$name is empty"
    elif [[ "$value" == insecure-dev-default || "$value" == "${example[$name]:-}" ]]; then
      echo "$name is the default of .env.example"
    elif [[ "$value" == "$(env_value "${name/%_PASSWORD/_USER}")" && "$name" == *_PASSWORD ]]; then
      echo "$name is the name of its user"
    else
      parts=("$value")
      [[ "$name" != API_KEY ]] || IFS=', ' read -ra parts <<<"$value"
      for part in "${parts[@]}"; do
        ((${#part} == 0 || ${#part} >= MINIMUM_SECRET)) || echo "$name has fewer than $MINIMUM_SECRET characters"
      done
    fi
  done
}

# tls_complaint: what is wrong with the paths of certificate and key; nothing if there are none, or both.
tls_complaint() {
  local name other path
  while read -r name other; do
    path="$(env_value "$name")"
    if [[ -z "$path" && -n "$(env_value "$other")" ]]; then
      echo "$other is set, but $name is not; set both in .env, or none"
    elif [[ -n "$path" && ! -f "$path" ]]; then
      echo "$name=$path: there is no such file; correct it in .env"
    fi
  done <<<$'TLS_CERTIFICATE TLS_KEY\nTLS_KEY TLS_CERTIFICATE'
}

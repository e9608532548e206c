#!/usr/bin/env bash
# Sourced: how .env is created and brought up to date.

# Old and new names of settings.
RENAMED=(
  "BRONZE_WATERMARK_MINUTES BRONZE_LATE_AFTER_MINUTES"
  "FEATURE_STREAM_CAP FEATURE_STREAM_MAX_PAYMENTS_PER_USER"
  "TRAINING_HONEST_PER_FRAUD TRAINING_LEGITIMATE_PER_FRAUD"
)
# What earlier releases wrote into .env although it is no setting: the release pins it.
PINS=("VERSION=0.1.0" "KAFKA_UI_IMAGE=kafbat/kafka-ui:v1.3.0" "GRAFANA_IMAGE=grafana/grafana:11.6.0")

secret() { od -vAn -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# with_secrets: lines from standard input, with a random secret for each development default.
with_secrets() {
  local line
  while IFS= read -r line || [[ -n "$line" ]]; do
    [[ "$line" != *=insecure-dev-default ]] || line="${line%%=*}=$(secret)"
    printf '%s\n' "$line"
  done
}

# carry_over_renamed FILE: a setting under its old name, in the file or the environment, keeps its effect.
carry_over_renamed() {
  local file="$1" old new line
  while read -r old new; do
    if [[ -n "${!old:-}" && -z "${!new:-}" ]]; then
      warn "$old is now $new; set that in your environment, the old name has no effect there"
    fi
    line="$(setting_line "$old" "$file")" || continue
    setting_line "$new" "$file" >/dev/null && continue
    printf '\n%s=%s\n' "$new" "${line#*=}" >>"$file"
    warn "$old is now $new: its value in $file is carried over; remove the old line"
  done < <(printf '%s\n' "${RENAMED[@]}")
}

# drop_pins FILE: lines whose value an earlier release wrote go, so that newer pins take effect; others are a choice.
drop_pins() {
  local file="$1" pin
  for pin in "${PINS[@]}"; do
    grep -qxF "$pin" "$file" || continue
    # Written through, so that the file keeps its mode and owner.
    local rest
    rest="$(grep -vxF "$pin" "$file")"
    printf '%s\n' "$rest" >"$file"
    say "removed $pin from $file: the release pins it now"
  done
}

# add_missing FILE EXAMPLE: settings of the example that the file lacks, at its end.
add_missing() {
  local file="$1" example="$2" line missing=""
  while IFS= read -r line; do
    setting_line "${line%%=*}" "$file" >/dev/null || missing+="$line"$'\n'
  done < <(grep -E '^[A-Z][A-Z0-9_]*=' "$example")
  [[ -n "$missing" ]] || return 0
  { printf '\n# Added from a newer %s\n' "$example" && printf '%s' "$missing" | with_secrets; } >>"$file"
  say "added to $file: $(printf '%s' "$missing" | cut -d= -f1 | paste -sd ' ')"
}

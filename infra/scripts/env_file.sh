#!/usr/bin/env bash
# Sourced: how .env is created and brought up to date.

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

# carry_over_renamed FILE: a setting that the file has under its old name only is added under the new one.
carry_over_renamed() {
  local file="$1" names old new line
  for names in "${RENAMED_SETTINGS[@]}"; do
    read -r old new <<<"$names"
    line="$(setting_line "$old" "$file")" || continue
    setting_line "$new" "$file" >/dev/null && continue
    printf '\n%s=%s\n' "$new" "${line#*[=:]}" >>"$file"
    warn "$old is now $new: its value in $file is carried over; remove the old line"
  done
}

# drop_pins FILE: lines whose value an earlier release wrote go, so that newer pins take effect; another value is a choice.
drop_pins() {
  local file="$1" pin line rest
  local -A SETTINGS
  read_settings "$file"
  for pin in "${PINS[@]}"; do
    [[ "${SETTINGS[${pin%%=*}]:-}" == "${pin#*=}" ]] || continue
    line="$(setting_line "${pin%%=*}" "$file")"
    # Written through, so that the file keeps its mode and owner.
    rest="$(grep -vxF -- "$line" "$file" || true)"
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

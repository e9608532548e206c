#!/usr/bin/env bash
# Sourced by support.sh: which settings are secret, and how their values are taken out of files that leave this machine.

SECRET_NAMES='PASSWORD|PASSWD|SECRET|KEY|TOKEN|WEBHOOK|CREDENTIAL|EMAIL|SMTP_USER'
# A value that is shorter may be a part of any word.
SHORTEST_SECRET=4
# A setting that this release doesn't know is hidden as well; values like these are found everywhere.
SHORTEST_UNKNOWN=8

declare -A VALUES DEFAULTS

# read_values: every setting's value as Compose reads it into VALUES, and what .env.example has into DEFAULTS.
read_values() {
  local name
  local -A SETTINGS
  read_settings .env.example
  for name in "${!SETTINGS[@]}"; do DEFAULTS[$name]="${SETTINGS[$name]}" VALUES[$name]="${SETTINGS[$name]}"; done
  read_settings .env
  for name in "${!SETTINGS[@]}"; do VALUES[$name]="${SETTINGS[$name]}"; done
  for name in "${!VALUES[@]}"; do
    if [[ "$name" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] && exported "$name"; then VALUES[$name]="${!name}"; fi
  done
}

is_known() { [[ -n "${DEFAULTS[$1]+set}" ]]; }
is_secret() { [[ "$1" =~ $SECRET_NAMES ]] || ! is_known "$1"; }
# Whether the value is the one of .env.example, which everybody knows.
is_default() { is_known "$1" && [[ "${VALUES[$1]}" == "${DEFAULTS[$1]}" ]]; }

# settings_without_secrets: a line for each setting with its value, or with what can be said of it.
settings_without_secrets() {
  local name value
  for name in "${!VALUES[@]}"; do
    value="${VALUES[$name]}"
    if [[ -z "$value" ]]; then
      printf '%s=\n' "$name"
    elif ! is_secret "$name"; then
      printf '%s=%q\n' "$name" "$value"
    elif is_default "$name"; then
      printf '%s=(hidden; the default)\n' "$name"
    else
      printf '%s=(hidden; %d characters)\n' "$name" "${#value}"
    fi
  done | LC_ALL=C sort
}

# secret_values: a line for each secret value: the setting's name, a tab, the value. A value of several lines is one for
# each of them, and several keys that commas divide (API_KEY, AIRFLOW_FERNET_KEY, RULES_KEYS) have one each, too. A
# default that is short, such as admin, is public and no secret.
secret_values() {
  local name value line shortest
  for name in "${!VALUES[@]}"; do
    is_secret "$name" || continue
    value="${VALUES[$name]}" shortest=$SHORTEST_SECRET
    if is_default "$name" || ! is_known "$name"; then
      shortest=$SHORTEST_UNKNOWN
    elif [[ -n "$value" ]] && ((${#value} < SHORTEST_SECRET)); then
      die "$name has fewer than $SHORTEST_SECRET characters, so its value can't be told from other text: choose a longer one"
    fi
    if [[ "$name" == *_KEY && "$value" == *,* ]]; then value+=$'\n'"$(tr -s ', ' '\n' <<<"$value")"; fi
    # Of name:role:key, the key is secret.
    if [[ "$name" == RULES_KEYS ]]; then value+=$'\n'"$(tr -s ', ' '\n' <<<"$value" | cut -d: -f3-)"; fi
    while IFS= read -r line || [[ -n "$line" ]]; do
      ((${#line} < shortest)) || printf '%s\t%s\n' "$name" "$line"
    done <<<"$value"
  done
}

# percent_encoded TEXT [KEEP]: as in URLs; the characters of KEEP stay.
percent_encoded() {
  local LC_ALL=C text="$1" at character
  for ((at = 0; at < ${#text}; at++)); do
    character="${text:at:1}"
    if [[ "$character" == [A-Za-z0-9._~-] || ("${2:-}" == *"$character"* && -n "${2:-}") ]]; then
      printf '%s' "$character"
    else
      printf '%%%02X' "'$character"
    fi
  done
}

# base64_forms TEXT: what any base64 that has the text in it has, wherever the text begins.
base64_forms() {
  local LC_ALL=C shift begin end encoded padding=""
  for shift in 0 1 2; do
    encoded="$(printf '%s%s' "$padding" "$1" | base64 -w 0)"
    begin=$(((shift * 8 + 5) / 6)) end=$(((shift + ${#1}) * 8 / 6))
    ((end - begin < SHORTEST_SECRET)) || printf '%s\n' "${encoded:begin:end-begin}"
    padding+=x
  done
}

# json_escaped TEXT: as in a string of JSON that has ASCII only, as Python writes it.
json_escaped() {
  local LC_ALL=C.UTF-8 text="$1" at character code
  for ((at = 0; at < ${#text}; at++)); do
    character="${text:at:1}"
    printf -v code '%d' "'$character"
    if [[ "$character" == [\\\"] ]]; then
      printf '\\%s' "$character"
    elif ((code >= 65536)); then
      printf '\\u%04x\\u%04x' $((0xd800 + ((code - 65536) >> 10))) $((0xdc00 + ((code - 65536) & 1023)))
    elif ((code > 126)); then
      printf '\\u%04x' "$code"
    else
      printf '%s' "$character"
    fi
  done
}

# forms_of TEXT: the text as it may occur: as it is, in JSON, in URLs, in base64.
forms_of() {
  local json="${1//\\/\\\\}"
  {
    printf '%s\n%s\n' "$1" "${json//\"/\\\"}"
    json_escaped "$1" && echo
    percent_encoded "$1" && echo
    percent_encoded "$1" / && echo
    base64_forms "$1"
  } | LC_ALL=C sort -u
}

# secret_forms: a line for each form of each secret value: the setting's name, a tab, the form; the longest first.
secret_forms() {
  local values name value form
  values="$(secret_values)" || return
  while IFS=$'\t' read -r name value; do
    while IFS= read -r form; do printf '%d\t%s\t%s\n' "${#form}" "$name" "$form"; done < <(forms_of "$value")
  done <<<"$values" | LC_ALL=C sort -t $'\t' -k 1,1nr | cut -f 2- | grep . || true
}

# files_with FORMS FOLDER: its files that have a secret value in any of these forms.
files_with() { LC_ALL=C grep -rlaF -f <(cut -f 2- <<<"$1") "$2" || true; }

# hide_secrets FOLDER FORMS: replaces every secret value in its files by the name of its setting.
hide_secrets() {
  local folder="$1" forms="$2" file left
  [[ -n "$forms" ]] || return 0
  while IFS= read -r file; do
    # The forms come by a file descriptor: an argument would be seen in the list of processes.
    LC_ALL=C awk '
      FILENAME == ARGV[1] {
        tab = index($0, "\t")
        names[++count] = "[" substr($0, 1, tab - 1) "]"
        forms[count] = substr($0, tab + 1)
        next
      }
      {
        for (i = 1; i <= count; i++) {
          if (!index($0, forms[i])) continue
          done = ""
          while (at = index($0, forms[i])) {
            done = done substr($0, 1, at - 1) names[i]
            $0 = substr($0, at + length(forms[i]))
          }
          $0 = done $0
        }
        print
      }' <(printf '%s\n' "$forms") "$file" >"$file.hidden"
    mv "$file.hidden" "$file"
  done < <(files_with "$forms" "$folder")
  left="$(files_with "$forms" "$folder")"
  [[ -z "$left" ]] || die "secrets are left, so nothing was written, in: $left"
}

#!/usr/bin/env bash
# Sourced by common.sh: the settings as Compose reads them. The environment wins, then .env, then .env.example.

# Old and new names of settings.
RENAMED_SETTINGS=(
  "BRONZE_WATERMARK_MINUTES BRONZE_LATE_AFTER_MINUTES"
  "FEATURE_STREAM_CAP FEATURE_STREAM_MAX_PAYMENTS_PER_USER"
  "TRAINING_HONEST_PER_FRAUD TRAINING_LEGITIMATE_PER_FRAUD"
)

# An old name in the environment keeps its effect; every script calls this, and only the first one warns.
export_renamed_settings() {
  local names old new
  for names in "${RENAMED_SETTINGS[@]}"; do
    read -r old new <<<"$names"
    if exported "$old" && ! exported "$new"; then
      export "$new=${!old}"
      warn "$old is now $new; rename it in your environment"
    fi
  done
}

# env_value NAME: the value of a setting; nothing if it is set nowhere.
env_value() {
  local file
  local -A SETTINGS
  if exported "$1"; then
    printf '%s' "${!1}"
    return
  fi
  for file in "$ROOT/.env" "$ROOT/.env.example"; do
    read_settings "$file"
    if [[ -n "${SETTINGS[$1]+set}" ]]; then
      printf '%s' "${SETTINGS[$1]}"
      return
    fi
  done
}

exported() { [[ -n "${!1+set}" && "${!1@a}" == *x* ]]; }

# setting_line NAME FILE: the last line of the file that sets it; fails if none does.
setting_line() {
  [[ -f "$2" ]] && grep -E "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*[=:]" "$2" | tail -n 1 | grep .
}

# read_settings FILE: fills the array SETTINGS by Compose's rules: single quotes are literal, double quotes have escapes,
# quoted values may have several lines, a # after a blank starts a comment outside quotes, and $NAME is replaced outside
# single quotes by the environment's value or by that of an earlier line.
read_settings() {
  local line name raw
  local assignment='^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_.-]*)[[:space:]]*[=:][[:blank:]]*(.*)$'
  local single="^'(([^'\\\\]|\\\\.)*)'" double='^"(([^"\\]|\\.)*)"'
  SETTINGS=()
  [[ -f "$1" ]] || return 0
  while IFS= read -r line || [[ -n "$line" ]]; do
    [[ "$line" =~ $assignment ]] || continue
    name="${BASH_REMATCH[2]}" raw="${BASH_REMATCH[3]}"
    case "$raw" in
    \'* | \"*)
      until [[ "$raw" =~ $single || "$raw" =~ $double ]]; do
        IFS= read -r line || break
        raw+=$'\n'"$line"
      done
      [[ "$raw" =~ $single || "$raw" =~ $double ]] || continue
      line="${BASH_REMATCH[1]}"
      if [[ "$raw" == \'* ]]; then
        SETTINGS[$name]="${line//\\\'/\'}"
      else
        SETTINGS[$name]="$(expand_names "$(unescape "${line//\\\"/\"}")")"
      fi
      ;;
    *)
      raw="${raw%% #*}"
      raw="${raw%"${raw##*[![:space:]]}"}"
      [[ "$raw" != *\$* ]] || raw="$(expand_names "$raw")"
      SETTINGS[$name]="$raw"
      ;;
    esac
  done <"$1"
}

# unescape TEXT: with the escapes of double quotes resolved; an escaped $ stays escaped for expand_names.
unescape() {
  local text="$1" value=""
  while [[ "$text" == *\\* ]]; do
    value+="${text%%\\*}" text="${text#*\\}"
    case "${text:0:1}" in
    n) value+=$'\n' ;;
    r) value+=$'\r' ;;
    t) value+=$'\t' ;;
    \$) value+='$$' ;;
    \" | \\) value+="${text:0:1}" ;;
    *) value+="\\${text:0:1}" ;;
    esac
    text="${text:1}"
  done
  printf '%s' "$value$text"
}

# expand_names TEXT: $NAME, ${NAME} and its forms with -, :-, + and :+ replaced by the settings' values, $$ by $.
expand_names() {
  local text="$1" value="" inside
  local plain='^([A-Za-z_][A-Za-z0-9_]*)'
  while [[ "$text" == *\$* ]]; do
    value+="${text%%\$*}" text="${text#*\$}"
    if [[ "$text" == \$* ]]; then
      value+='$' text="${text:1}"
    elif [[ "$text" =~ $plain ]]; then
      text="${text#"${BASH_REMATCH[1]}"}"
      value+="$(setting_now "${BASH_REMATCH[1]}")"
    elif [[ "$text" == \{*\}* ]]; then
      inside="$(to_closing_brace "${text:1}")"
      text="${text:${#inside}+2}"
      value+="$(braced_value "$inside")"
    else
      value+='$'
    fi
  done
  printf '%s' "$value$text"
}

# to_closing_brace TEXT: what is before the brace that closes the one before TEXT.
to_closing_brace() {
  local at depth=1
  for ((at = 0; at < ${#1}; at++)); do
    case "${1:at:1}" in
    \{) depth=$((depth + 1)) ;;
    \}) depth=$((depth - 1)) ;;
    esac
    ((depth > 0)) || break
  done
  printf '%s' "${1:0:at}"
}

# braced_value TEXT: the value of what is between ${ and }.
braced_value() {
  local form='^([A-Za-z_][A-Za-z0-9_]*)(:?[-+])?(.*)$' name operator other
  [[ "$1" =~ $form ]] || return 0
  name="${BASH_REMATCH[1]}" operator="${BASH_REMATCH[2]}" other="${BASH_REMATCH[3]}"
  local value has=1
  value="$(setting_now "$name")"
  is_set_now "$name" || has=0
  [[ "$operator" != :* || -n "$value" ]] || has=0
  case "$operator$has" in
  *-0 | *+1) expand_names "$other" ;;
  *+0) ;;
  *) printf '%s' "$value" ;;
  esac
}

is_set_now() { exported "$1" || [[ -n "${SETTINGS[$1]+set}" ]]; }
setting_now() { if exported "$1"; then printf '%s' "${!1}"; else printf '%s' "${SETTINGS[$1]:-}"; fi; }

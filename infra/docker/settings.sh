#!/usr/bin/env bash
# Sourced by common.sh: the settings as Compose reads them. The environment wins, then .env, then .env.example.

# env_value NAME: the value of a setting; nothing if it is set nowhere.
env_value() {
  local file line
  if printenv "$1" >/dev/null; then
    printf '%s' "$(printenv "$1")"
    return
  fi
  for file in "$ROOT/.env" "$ROOT/.env.example"; do
    if line="$(setting_line "$1" "$file")"; then
      dotenv_value "$line"
      return
    fi
  done
}

# setting_line NAME FILE: the last line of the file that sets it; fails if none does.
setting_line() {
  [[ -f "$2" ]] && grep -E "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=" "$2" | tail -n 1 | grep .
}

# dotenv_value LINE: the value of NAME=value by Compose's rules: single quotes are literal, double quotes have escapes,
# a # after a blank starts a comment outside quotes, and $NAME is replaced outside single quotes.
dotenv_value() {
  local raw="${1#*=}"
  raw="${raw%$'\r'}"
  raw="${raw#"${raw%%[![:space:]]*}"}"
  case "$raw" in
  \'*)
    raw="${raw:1}"
    printf '%s' "${raw%%\'*}"
    ;;
  \"*) expand_names "$(unquote "${raw:1}")" ;;
  *)
    raw="${raw%% \#*}"
    expand_names "${raw%"${raw##*[![:space:]]}"}"
    ;;
  esac
}

# unquote TEXT: up to the closing double quote, with its escapes resolved; an escaped $ stays escaped for expand_names.
unquote() {
  local text="$1" value="" at char
  for ((at = 0; at < ${#text}; at++)); do
    char="${text:at:1}"
    case "$char" in
    \") break ;;
    \\)
      at=$((at + 1))
      case "${text:at:1}" in
      n) value+=$'\n' ;;
      r) value+=$'\r' ;;
      t) value+=$'\t' ;;
      \$) value+='$$' ;;
      *) value+="${text:at:1}" ;;
      esac
      ;;
    *) value+="$char" ;;
    esac
  done
  printf '%s' "$value"
}

# expand_names TEXT: $NAME, ${NAME} and ${NAME:-default} replaced by the settings' values, $$ by $.
expand_names() {
  local text="$1" value="" found
  # shellcheck disable=SC2016 # the $ is the pattern's
  local name='^\$(\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))'
  while [[ -n "$text" ]]; do
    if [[ "$text" == '$$'* ]]; then
      value+='$' text="${text:2}"
    elif [[ "$text" =~ $name ]]; then
      # The recursive call has matches of its own.
      local length=${#BASH_REMATCH[0]} default="${BASH_REMATCH[4]}"
      found="$(env_value "${BASH_REMATCH[2]}${BASH_REMATCH[5]}")"
      value+="${found:-$default}" text="${text:length}"
    else
      value+="${text:0:1}" text="${text:1}"
    fi
  done
  printf '%s' "$value"
}

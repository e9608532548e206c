#!/usr/bin/env bash
# Tries out the backup in the folder FROM beside the stack, which is not touched: restores its volumes into a project of
# their own, starts the stores on them, counts what they have and compares it with what was counted when the backup was
# made. Prints the table; exit code 1 if anything differs. Everything is deleted again.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/archive.sh"
source "$(dirname "${BASH_SOURCE[0]}")/counts.sh"
source "$(dirname "${BASH_SOURCE[0]}")/env_file.sh"

FROM="${FROM:-}"
[[ -n "$FROM" ]] || die "which backup? make restore-drill FROM=/path/to/a/folder that make backup has written"
say "checking the backup"
check_backup "$FROM"
check_release "$FROM"
folder="$(cd "$FROM" && pwd)"
[[ -f "$folder/counts" ]] || die "an earlier release wrote this backup, without counts to compare with"
infra/docker/engine.sh

# use_settings FILE: exports its settings, with ports that nothing else has.
use_settings() {
  local name port=22000
  local -A SETTINGS
  read_settings "$1"
  for name in "${!SETTINGS[@]}"; do
    # A shell has no variables with other names.
    [[ "$name" =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || continue
    if [[ "$name" == *_PORT ]]; then
      export "$name=$((port += 1))"
    elif ! exported "$name"; then
      export "$name=${SETTINGS[$name]}"
    fi
  done
  export BIND_ADDRESS=127.0.0.1 COMPOSE_PROJECT_NAME=fraud-platform-drill
}

scratch="$(mktemp -d)"
take_down() { docker compose --progress quiet down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true; }
# What it needs to start is what a newer release would add to these settings.
(umask 077 && cp "$folder/env" "$scratch/env")
add_missing "$scratch/env" .env.example 2>/dev/null
use_settings "$scratch/env"
trap 'take_down; rm -rf "$scratch"' EXIT
# What an earlier run that was killed has left.
take_down

mapfile -t present < <(for store in $(stores); do if [[ -f "$folder/$store-data.tar.gz" ]]; then echo "$store"; fi; done)
# Of this checkout, as for make up; what is built already is not built again.
infra/docker/build.sh "${present[@]}"
tar_image="$(archive_image)"
say "restoring into the project $COMPOSE_PROJECT_NAME, and comparing each volume with the backup"
restore_volumes "$folder" "$COMPOSE_PROJECT_NAME"
say "starting ${present[*]}"
docker compose --progress quiet up --detach --wait --wait-timeout 600 "${present[@]}" || {
  mkdir -p reports
  docker compose logs --no-color --timestamps >reports/restore-drill.log 2>&1
  die "a store did not start on the restored data ($(docker compose ps --all --format '{{.Service}}: {{.Status}}' |
    paste -sd ';')); the logs are in reports/restore-drill.log"
}
say "counting"
counts >"$scratch/counts"

# compare BEFORE AFTER: a line for each count: store, what, before, after. A store that was not counted before, since it
# did not run, says so.
compare() {
  awk -F '\t' '
    {key = $1 "\t" $2; keys[key] = $1}
    FILENAME == ARGV[1] {before[key] = $3; counted[$1] = 1; next}
    {after[key] = $3}
    END {
      for (key in keys) {
        missing = (keys[key] in counted) ? "missing" : "not counted"
        print key "\t" ((key in before) ? before[key] : missing) "\t" ((key in after) ? after[key] : "missing")
      }
    }' "$1" "$2" | LC_ALL=C sort
}

printf '\n| store | what | in the backup | restored |\n|---|---|---|---|\n'
for volume in $(volumes_in "$folder"); do
  content="$(content_in "$folder" "$volume")"
  printf '| volume %s | checksum of its files | %s | %s |\n' "$volume" "${content:0:16}" "${contents[$volume]:0:16}"
done
agree=0 differ=0
while IFS=$'\t' read -r store what before after; do
  if [[ "$before" == "$after" ]]; then
    agree=$((agree + 1))
  elif [[ "$before" != "not counted" ]]; then
    differ=$((differ + 1)) what="**$what**"
  fi
  printf '| %s | %s | %s | %s |\n' "$store" "$what" "$before" "$after"
done < <(compare "$folder/counts" "$scratch/counts")
((differ == 0)) || die "$differ count(s) differ, in bold above"
say "$(volumes_in "$folder" | wc -l) volumes are as they were, and the stores answer: $agree counts agree"

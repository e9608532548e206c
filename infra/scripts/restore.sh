#!/usr/bin/env bash
# Restores the backup in the folder FROM into a stack without data; its .env replaces the present one. If that fails,
# everything is as it was before.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/compose_file.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../docker/archive.sh"

FROM="${FROM:-}"
[[ -n "$FROM" ]] || die "where from? make restore FROM=/path/to/a/folder that make backup has written"
say "checking the backup"
check_backup "$FROM"
check_release "$FROM"
folder="$(cd "$FROM" && pwd)"
# A new machine has no engine yet, and a new clone no .env.
infra/docker/engine.sh
prefix="$(project_name "$folder/env")"
[[ -z "$(docker volume ls --quiet --filter "label=com.docker.compose.project=$prefix")" ]] ||
  die "this stack has data; a restore would mix both. Keep it with make backup, or delete it with make clean, then: make restore FROM=$FROM"
tar_image="$(archive_image)" || { infra/docker/base.sh && tar_image="$(image base)"; }

complete=0
finish() {
  local status=$?
  if ((!complete && ${#restored[@]} > 0)); then
    trap '' HUP INT TERM
    docker volume rm "${restored[@]}" >/dev/null || warn "delete what was restored: make clean"
    warn "nothing was restored; the volumes that this has made are deleted again"
  fi
  exit "$status"
}
trap finish EXIT
restore_volumes "$folder" "$prefix"
if [[ -f .env ]] && ! cmp --silent .env "$folder/env"; then
  cp --preserve=mode .env .env.before-restore
  say "the .env that was here is .env.before-restore"
fi
# Renamed into place, so that a full disk leaves the one that is here.
(umask 077 && cp "$folder/env" .env.new && mv .env.new .env)
complete=1
say "restored, each volume as it was; start the stack: make up"

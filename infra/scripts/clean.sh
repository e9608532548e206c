#!/usr/bin/env bash
# Stops everything and deletes all data of the platform, after a question.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

volumes="$(docker compose config --volumes | sort | paste -sd ' ')"
read -r -p "This deletes all data ($volumes). Type yes to go on: " answer || die "nothing was deleted: no answer"
[[ "$answer" == yes ]] || die "nothing was deleted"
docker compose down --volumes --remove-orphans

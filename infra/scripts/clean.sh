#!/usr/bin/env bash
# Stops everything and deletes all data of the platform, after a question.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

volumes="$(docker compose config --volumes | sort | paste -sd ' ')"
read -r -p "This deletes all data ($volumes). Type y or yes to delete it: " answer || die "no answer: nothing was deleted"
[[ "$answer" =~ ^([yY]|[yY][eE][sS])$ ]] || die "the answer was not y or yes: nothing was deleted"
docker compose down --volumes --remove-orphans

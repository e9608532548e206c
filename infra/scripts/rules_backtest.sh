#!/usr/bin/env bash
# rules_backtest.sh: what a rule would have done. RULE=name [RULE_VERSION=2] or WHEN='amount > 500' [ANSWER=decline] [QUEUE=1]
# [COMPARE_TO=name] or THRESHOLD=0.3; [DAYS=30] or FROM=2026-10-01, [TO=2026-10-30].
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

arguments=()
for name in RULE RULE_VERSION WHEN ANSWER COMPARE_TO THRESHOLD DAYS FROM TO; do
  option="${name,,}"
  [[ $name != RULE_VERSION ]] || option=version
  [[ -z "${!name:-}" ]] || arguments+=("--${option/_/-}=${!name}")
done
[[ -z "${QUEUE:-}" ]] || arguments+=(--queue)
[[ -n "${RULE:-}${WHEN:-}${THRESHOLD:-}" ]] ||
  die "say what: make rules-backtest RULE=name, or WHEN='amount > 500 and is_new_device_30d', or THRESHOLD=0.3; DAYS=30 is the default"
# A terminal sends Ctrl-C into the container, which cancels the backtest.
terminal=()
[[ -t 1 ]] || terminal=(--no-TTY)
docker compose exec "${terminal[@]}" fraud-api python3 -m rules.backtest.command "${arguments[@]}"

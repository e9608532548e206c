#!/usr/bin/env bash
# One prediction of the API that runs here, printed.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reachable.sh"

url="$(api_url)/predict"
# The certificate is for the name by which others know this machine.
options=(--insecure --header "X-API-Key: $(env_value API_INTERNAL_KEY)" --header 'Content-Type: application/json')
payment='{"transaction_id":"t1","user_id":"U1234","amount":500,"merchant_id":"M001","is_international":false}'
say "POST $url $payment"
curl --silent --show-error --fail-with-body "${options[@]}" \
  --data "$payment" "$url" || die "no answer; is the API up? make phase4-up, docker compose logs fraud-api"
printf '\n'

#!/usr/bin/env bash
# One prediction of the API that runs here, printed.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

url="http://localhost:$(env_value API_PORT)/predict"
key="$(env_value API_KEY)"
payment='{"transaction_id":"t1","user_id":"U1234","amount":500,"merchant_id":"M001","is_international":false}'
say "POST $url $payment"
curl --silent --show-error --fail-with-body --header 'Content-Type: application/json' ${key:+--header "X-API-Key: $key"} \
  --data "$payment" "$url" || die "no answer; is the API up? make phase4-up, docker compose logs fraud-api"
printf '\n'

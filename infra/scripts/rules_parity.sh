#!/usr/bin/env bash
# Random rules over random payments in a Trino of their own, without a stack: the generated Python says the same of each.
# ROWS (100000), RULES (200) and SEED (1) choose.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/own_stack.sh"

infra/docker/build.sh trino
build_test_images fraud-api
name="rules-parity-$$"
clean_up() {
  docker rm --force "$name" >/dev/null 2>&1 || true
  docker network rm "$name" >/dev/null 2>&1 || true
}
trap clean_up EXIT
docker network create "$name" >/dev/null
# The catalogues' stores are never asked; their settings must only be there.
docker run --detach --name "$name" --network "$name" --memory 2464m --env S3_ENDPOINT=http://none:9000 \
  --env S3_ACCESS_KEY=none --env S3_SECRET_KEY=none --env POSTGRES_HOST=none --env TRINO_DB_PASSWORD=none \
  "$(image trino)" >/dev/null
say "starting Trino"
timeout 300 bash -c "until docker exec $name trino-ready >/dev/null 2>&1; do sleep 1; done" ||
  die "Trino did not start within 5 minutes: $(docker logs --tail 5 "$name" 2>&1)"
docker run --rm --network "$name" --env "TRINO_HOST=$name" "${checkout_options[@]}" "$(image fraud-api-test)" \
  python3 phase4-ml/tests/rule_parity.py --rows "${ROWS:-100000}" --rules "${RULES:-200}" --seed "${SEED:-1}"

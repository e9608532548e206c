#!/usr/bin/env bash
# Creates the buckets, and for each service a user that may touch nothing but its own prefix. Changes nothing that is
# there already, except that a changed secret or policy takes effect. --empty deletes what is in the lakehouse first: for tests.
set -euo pipefail

BUCKETS=(lakehouse checkpoints mlflow)

minio-client alias set platform "$MINIO_URL" "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null
for bucket in "${BUCKETS[@]}"; do
  minio-client mb --ignore-existing "platform/$bucket"
done
if [[ "${1:-}" == --empty ]]; then
  minio-client rm --recursive --force --quiet platform/lakehouse platform/checkpoints >/dev/null
fi

# service_user NAME SECRET: the user, and the policy of the same name.
service_user() {
  local name="$1" secret="$2"
  minio-client admin user add platform "$name" "$secret" >/dev/null
  minio-client admin policy create platform "$name" "/etc/minio-policies/$name.json" >/dev/null
  minio-client admin policy attach platform "$name" --user "$name" >/dev/null 2>&1 ||
    minio-client admin user info platform "$name" | grep -q "$name" # attached already
  echo "user $name: policy $name"
}
service_user spark "$SPARK_S3_SECRET"
service_user trino "$TRINO_S3_SECRET"
service_user mlflow "$MLFLOW_S3_SECRET"
service_user training "$TRAINING_S3_SECRET"
# Metrics only.
service_user prometheus "$PROMETHEUS_S3_SECRET"

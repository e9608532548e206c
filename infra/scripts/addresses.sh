#!/usr/bin/env bash
# Prints where the services that run now can be reached, and with which login.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reachable.sh"

login="$(host_of BIND_ADDRESS)" no_login="$(host_of NO_LOGIN_BIND_ADDRESS)"
running="$(docker compose ps --services --status running)"

# row SERVICE NAME ADDRESS LOGIN
row() { if grep -qx "$1" <<<"$running"; then printf '  %-18s %-42s %s\n' "$2" "$3" "${4:-–}"; fi; }

printf '\n  %-18s %-42s %s\n' SERVICE ADDRESS LOGIN
row kafka Kafka "$login:$(env_value KAFKA_PORT)"
row kafka-ui "Kafka UI" "http://$no_login:$(env_value KAFKA_UI_PORT)"
row schema-registry "Schema Registry" "http://$login:$(env_value SCHEMA_REGISTRY_PORT)/subjects"
row producer "Producer metrics" "http://$no_login:$(env_value PRODUCER_METRICS_PORT)/metrics"
row minio "MinIO console" "http://$login:$(env_value MINIO_CONSOLE_PORT)" "$(env_value MINIO_ROOT_USER) / MINIO_ROOT_PASSWORD in .env"
row minio "S3 API" "http://$login:$(env_value MINIO_PORT)"
row spark-master "Spark master" "http://$no_login:$(env_value SPARK_MASTER_PORT)"
row spark-streaming "Bronze metrics" "http://$no_login:$(env_value BRONZE_METRICS_PORT)/metrics"
row trino Trino "http://$no_login:$(env_value TRINO_PORT)" "any user, no password"
row airflow-api-server Airflow "http://$login:$(env_value AIRFLOW_PORT)" "$(env_value AIRFLOW_ADMIN_USER) / AIRFLOW_ADMIN_PASSWORD in .env"
row mlflow MLflow "http://$no_login:$(env_value MLFLOW_PORT)"
row fraud-api "Fraud API" "$(api_url)/docs" "$([[ -z "$(env_value API_KEY)" ]] || echo "API_KEY in .env, as password or X-API-Key")"
row feature-stream "Feature stream" "http://$no_login:$(env_value FEATURE_STREAM_METRICS_PORT)/metrics"
row scorer "Scorer metrics" "http://$no_login:$(env_value SCORER_METRICS_PORT)/metrics"
row prometheus Prometheus "http://$no_login:$(env_value PROMETHEUS_PORT)"
row alertmanager Alertmanager "http://$no_login:$(env_value ALERTMANAGER_PORT)"
row grafana Grafana "http://$login:$(env_value GRAFANA_PORT)" "$(env_value GRAFANA_ADMIN_USER) / GRAFANA_ADMIN_PASSWORD in .env"
row superset Superset "http://$login:$(env_value SUPERSET_PORT)" "$(env_value SUPERSET_ADMIN_USER) / SUPERSET_ADMIN_PASSWORD in .env"

# look SERVICE TEXT: a first thing to look at, where there is something to see.
look() { if grep -qx "$1" <<<"$running"; then printf '  %s\n' "$2"; fi; }

printf '\n  Look at first:\n'
if grep -qx fraud-api <<<"$running"; then
  look fraud-api "make predict-test: one payment scored; $(api_url)/docs has the rest"
  look fraud-api "make rules: the rules that decide beside the model; docs/rules.md says how to change them"
  look superset "http://$login:$(env_value SUPERSET_PORT)/dashboard/list/: the Real-Time Risk Feed, payments as they are scored"
  look prometheus "http://$no_login:$(env_value PROMETHEUS_PORT)/classic/alerts: what would be wrong, and the runbook line for it"
else
  look producer "docker compose logs --tail 5 producer: what is sent; make kafka-lag: who has read it"
  look spark-master "http://$no_login:$(env_value SPARK_MASTER_PORT): the streaming job; make phase3-up makes tables of its rows"
  look airflow-api-server "http://$login:$(env_value AIRFLOW_PORT)/dags/fraud_pipeline: the runs that build Silver and Gold"
fi
printf '\n'

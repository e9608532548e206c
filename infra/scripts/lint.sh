#!/usr/bin/env bash
# All linters over the whole repository, in the lint image. --fix lets Ruff correct what it can.
source "$(dirname "${BASH_SOURCE[0]}")/../docker/common.sh"

infra/scripts/env.sh
infra/docker/engine.sh
infra/docker/build.sh
infra/docker/build_one.sh lint docker build --progress plain --file infra/lint/Dockerfile --tag "$(image lint)" \
  --build-arg "PYTHON_BUILD=$(image python-build)" .

# Modules are found from the folders that they share.
MYPYPATH=common:phase1-ingestion:phase2-streaming:phase3-transforms/airflow:phase4-ml:phase5-analytics:phase5-analytics/grafana:infra/sbom
in_lint() { docker run --rm --user "$(id -u):$(id -g)" --env HOME=/tmp --env "MYPYPATH=$MYPYPATH" --volume "$ROOT:/repo:${lint_mount:-ro}" "$(image lint)" "$@"; }

mapfile -t shell_files < <(git grep -lE '^#!.*(bash|sh)$' -- ':!*.md')
mapfile -t dockerfiles < <(git ls-files '*Dockerfile')

if [[ "${1:-}" == --fix ]]; then
  lint_mount=rw in_lint ruff check --no-cache --fix-only --quiet .
  lint_mount=rw in_lint ruff format --no-cache .
fi

failed=0
check() {
  local name="$1"
  shift
  say "$name"
  in_lint "$@" || failed=1
}
check "ruff check" ruff check --no-cache .
check "ruff format" ruff format --no-cache --check .
types() { check mypy mypy --cache-dir /tmp/mypy --python-executable /opt/venv/bin/python --explicit-package-bases "$@"; }
types common/fraud_common phase1-ingestion/producer phase2-streaming/spark_jobs phase3-transforms/airflow/lakehouse \
  phase4-ml/{features.py,feature_store,feature_stream,scorer,audit,fraud_db,model_quality,shadow,rules,serving} \
  phase4-ml/{training,training_runs,explainer} \
  phase5-analytics/{kafka_exporter,monitoring,grafana/source} infra/sbom
check shellcheck shellcheck --external-sources --source-path=SCRIPTDIR "${shell_files[@]}"
check hadolint hadolint "${dockerfiles[@]}"
# Macros are linted where the models use them.
mapfile -t sql_files < <(git ls-files '*.sql' ':!*/macros/*' ':!*/tests/generic/*')
check sqlfluff sqlfluff lint --disable-progress-bar "${sql_files[@]}"
((failed == 0)) || die "lint found something; 'infra/scripts/lint.sh --fix' corrects what Ruff can"
say "lint is clean"

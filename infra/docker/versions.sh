#!/usr/bin/env bash
# Sourced: which release this is, and which versions of the systems it has.

# release: the commit that is checked out, and whether a file differs from it.
release() {
  local commit
  commit="$(git rev-parse HEAD 2>/dev/null)" || {
    printf unknown
    return
  }
  printf '%s' "$commit"
  [[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]] || printf ' with local edits'
}

# Versions as they are pinned: of an artifact in a pom.xml, of a package in requirements.
artifact() { sed -n "/<artifactId>$1</{n;s/.*<version>\(.*\)<.*/\1/p;q}" "infra/$2/pom.xml"; }
package() { sed -n "s/^$1==\([^ ]*\).*/\1/p" "$2/requirements.txt"; }

postgres_major() { sed -n 's/.*postgresql-\([0-9][0-9]*\).*/\1/p' infra/postgres/Dockerfile | head -n 1; }

# debian_version IMAGE COMMAND...: what a program of Debian says in one of our images, if that is here: its version is not
# pinned.
debian_version() {
  docker run --rm --network none --entrypoint "$2" "$(image "$1")" "${@:3}" 2>/dev/null |
    sed -nE '1s/[^0-9]*([0-9]+\.[0-9.]+).*/\1/p' || true
}

# versions: a line for each system: its name and its version.
versions() {
  printf 'docker %s\n' "$(docker version --format '{{.Server.Version}}' 2>/dev/null || true)"
  printf 'compose %s\n' "$(docker compose version --short 2>/dev/null || true)"
  printf 'kafka %s\n' "$(artifact kafka_2.13 kafka)"
  printf 'minio %s\n' "$(sed -n 's/.*minio@\(v[^ ]*\).*/\1/p' infra/minio/Dockerfile)"
  printf 'spark %s\n' "$(package pyspark infra/spark)"
  printf 'delta %s\n' "$(package delta-spark infra/spark)"
  printf 'trino %s\n' "$(artifact trino-server trino)"
  printf 'postgres %s\n' "$(debian_version postgres postgres --version)"
  printf 'redis %s\n' "$(debian_version redis redis-server --version)"
  printf 'airflow %s\n' "$(package apache-airflow phase3-transforms/airflow)"
  printf 'mlflow %s\n' "$(package mlflow infra/mlflow)"
}

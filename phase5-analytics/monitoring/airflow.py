"""Airflow's runs and heartbeats, from its database.

What Airflow sends over statsd is gone when its exporter restarts, and it sends nothing when the scheduler is dead. The
database has both. The role `metrics` may read the columns that are used here, and no others (prepare-airflow).
"""

import logging
from dataclasses import dataclass

import psycopg2
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from monitoring.settings import Settings

log = logging.getLogger("airflow")

RUNS = """
select
    dag_id,
    extract(epoch from max(end_date) filter (where state = 'success'))::float8,
    extract(epoch from min(coalesce(start_date, queued_at)))::float8,
    (array_agg(state order by end_date desc) filter (where state in ('success', 'failed')))[1] = 'failed',
    extract(epoch from (
        array_agg(end_date - start_date order by end_date desc) filter (where state = 'success')
    )[1])::float8
from dag_run
group by dag_id
"""
HEARTBEATS = "select job_type, extract(epoch from max(latest_heartbeat))::float8 from job group by job_type"


@dataclass(frozen=True)
class Dag:
    """What is known of a DAG's runs; times are seconds since 1970. What there is not is None."""

    name: str
    last_success: float | None
    first_run: float | None
    last_run_failed: bool | None
    success_seconds: float | None  # how long the last successful run took


def airflow_metrics(settings: Settings) -> list[Metric]:
    """What the database says now; when it does not answer, only that."""
    try:
        dags, heartbeats = _read(settings)
    except psycopg2.Error as error:
        log.debug("POSTGRES_HOST=%s: %s", settings.postgres_host, str(error).strip())
        return [_answers(0)]
    return [_answers(1), *families(dags, heartbeats)]


def families(dags: list[Dag], heartbeats: dict[str, float]) -> list[Metric]:
    """The metrics of these DAGs and of these kinds of job."""
    success = GaugeMetricFamily(
        "airflow_dag_last_success_timestamp_seconds", "When a run last succeeded", labels=["dag_id"]
    )
    first = GaugeMetricFamily("airflow_dag_first_run_timestamp_seconds", "When the first run began", labels=["dag_id"])
    failed = GaugeMetricFamily(
        "airflow_dag_last_run_failed", "1 if the run that ended last has failed", labels=["dag_id"]
    )
    took = GaugeMetricFamily("airflow_dag_last_success_seconds", "How long that run took", labels=["dag_id"])
    beats = GaugeMetricFamily(
        "airflow_heartbeat_timestamp_seconds", "The newest heartbeat of a kind of job", labels=["job_type"]
    )
    for dag in dags:
        for family, value in (
            (success, dag.last_success),
            (first, dag.first_run),
            (failed, dag.last_run_failed),
            (took, dag.success_seconds),
        ):
            if value is not None:
                family.add_metric([dag.name], value)
    for job_type, at in heartbeats.items():
        beats.add_metric([job_type], at)
    return [success, first, failed, took, beats]


def _answers(value: int) -> Metric:
    return GaugeMetricFamily("airflow_database_answers", "1 if Airflow's database answers", value=value)


def _read(settings: Settings) -> tuple[list[Dag], dict[str, float]]:
    connection = psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname="airflow",
        user="metrics",
        password=settings.metrics_db_password,
        connect_timeout=4,
        # Less than Prometheus waits for a scrape.
        options="-c statement_timeout=2000",
        application_name="monitoring",
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(RUNS)
            dags = [Dag(*row) for row in cursor.fetchall()]
            cursor.execute(HEARTBEATS)
            return dags, {job_type: at for job_type, at in cursor.fetchall() if at is not None}
    finally:
        connection.close()

"""The DAGs as Airflow reads them: no import errors, the chain, the schedule, retries, no overlap."""

from datetime import timedelta

import pytest
from airflow.dag_processing.dagbag import DagBag


@pytest.fixture(scope="module")
def dags() -> DagBag:
    return DagBag("/opt/airflow/dags")


def chain_of(dag: object) -> list[str]:
    (task,) = dag.roots
    names = [task.task_id]
    while task.downstream_list:
        (task,) = task.downstream_list
        names.append(task.task_id)
    return names


def test_every_dag_can_be_read(dags: DagBag) -> None:
    assert dags.import_errors == {}
    assert set(dags.dags) == {"fraud_pipeline", "lakehouse_maintenance"}


def test_the_pipeline_is_one_chain(dags: DagBag) -> None:
    assert chain_of(dags.dags["fraud_pipeline"]) == [
        "bronze_freshness_check",
        "dbt_seed",
        "dbt_staging",
        "dbt_intermediate",
        "dbt_marts",
        "dbt_test",
    ]


def test_maintenance_is_one_chain(dags: DagBag) -> None:
    assert chain_of(dags.dags["lakehouse_maintenance"]) == ["compact", "vacuum", "expire", "expire_task_logs"]


@pytest.mark.parametrize(
    ("dag_id", "cron"), [("fraud_pipeline", "*/15 * * * *"), ("lakehouse_maintenance", "30 2 * * *")]
)
def test_runs_are_scheduled_and_never_overlap(dags: DagBag, dag_id: str, cron: str) -> None:
    dag = dags.dags[dag_id]
    assert dag.schedule == cron
    assert dag.max_active_runs == 1
    assert not dag.catchup


def test_the_pipeline_retries_with_back_off_and_has_a_deadline(dags: DagBag) -> None:
    dag = dags.dags["fraud_pipeline"]
    for task in dag.tasks:
        assert task.retries == 2, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.max_retry_delay == timedelta(minutes=5), task.task_id
        assert task.execution_timeout, task.task_id
    (deadline,) = dag.deadline
    assert deadline.interval == timedelta(minutes=12)

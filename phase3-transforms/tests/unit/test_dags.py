"""The DAGs as Airflow reads them: no import errors, the chain, the schedule, retries, no overlap."""

import os
import subprocess
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
    assert set(dags.dags) == {"fraud_pipeline", "lakehouse_maintenance", "model_training"}


def test_the_pipeline_is_one_chain(dags: DagBag) -> None:
    assert chain_of(dags.dags["fraud_pipeline"]) == [
        "bronze_freshness_check",
        "dbt_seed",
        "dbt_staging",
        "dbt_intermediate",
        "dbt_marts",
        "dbt_test",
        "push_features_to_redis",
        "reconcile_stream_features",
    ]


def test_training_is_one_task(dags: DagBag) -> None:
    assert chain_of(dags.dags["model_training"]) == ["train_and_promote"]


@pytest.mark.parametrize(
    ("dag_id", "task_id"), [("fraud_pipeline", "push_features_to_redis"), ("model_training", "train_and_promote")]
)
def test_without_phase_4_its_tasks_are_skipped(dags: DagBag, dag_id: str, task_id: str) -> None:
    # This stack has none of its services.
    task = dags.dags[dag_id].get_task(task_id)
    assert task.skip_on_exit_code == [99]
    done = subprocess.run(
        ["bash", "-c", task.bash_command],
        env=os.environ | {"REDIS_HOST": "no-such-host.invalid"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 99
    assert "make phase4-up" in done.stderr


@pytest.mark.parametrize("module", ["feature_writer", "reconciliation"])
def test_what_phase_4_lends_to_the_tasks_is_complete(module: str) -> None:
    command = ["python3", "-c", f"import serving.{module}"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": "/opt/ml"}, check=True)


def test_maintenance_is_one_chain(dags: DagBag) -> None:
    assert chain_of(dags.dags["lakehouse_maintenance"]) == ["compact", "vacuum", "expire", "expire_task_logs"]


@pytest.mark.parametrize(
    ("dag_id", "cron"),
    [("fraud_pipeline", "*/15 * * * *"), ("lakehouse_maintenance", "30 2 * * *"), ("model_training", "0 4 * * 0")],
)
def test_runs_are_scheduled_and_never_overlap(dags: DagBag, dag_id: str, cron: str) -> None:
    dag = dags.dags[dag_id]
    assert dag.schedule == cron
    assert dag.max_active_runs == 1
    assert not dag.catchup
    # Gold is wanted at once, the other two when their time comes.
    assert (dag.start_date is not None) == (dag_id == "fraud_pipeline")


@pytest.mark.parametrize(
    ("dag_id", "longest_wait", "limit"),
    [
        ("fraud_pipeline", timedelta(minutes=5), timedelta(minutes=12)),
        ("model_training", timedelta(minutes=30), timedelta(hours=1)),
    ],
)
def test_runs_retry_with_back_off_and_have_a_deadline(
    dags: DagBag, dag_id: str, longest_wait: timedelta, limit: timedelta
) -> None:
    dag = dags.dags[dag_id]
    for task in dag.tasks:
        assert task.retries == 2, task.task_id
        assert task.retry_exponential_backoff, task.task_id
        assert task.max_retry_delay == longest_wait, task.task_id
        assert task.execution_timeout, task.task_id
    (deadline,) = dag.deadline
    assert deadline.interval == limit

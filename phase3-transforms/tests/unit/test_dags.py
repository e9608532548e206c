"""The DAGs as Airflow reads them: no import errors, the chain, the schedule, retries, no overlap."""

import os
import re
import subprocess
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

REPOSITORY = Path(__file__).parents[3]
AIRFLOW = REPOSITORY / "phase3-transforms" / "airflow"


@pytest.fixture(scope="module")
def dags() -> DagBag:
    return DagBag(AIRFLOW / "dags")


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


def test_the_pipeline_runs_layer_by_layer(dags: DagBag) -> None:
    dag = dags.dags["fraud_pipeline"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "bronze_freshness_check": ["dbt_seed"],
        "dbt_seed": ["dbt_staging"],
        "dbt_staging": ["dbt_intermediate"],
        "dbt_intermediate": ["dbt_marts"],
        "dbt_marts": ["dbt_test", "push_features_to_redis", "score_examples"],
        "dbt_test": ["data_tests_passed", "push_features_to_redis"],
        "push_features_to_redis": ["reconcile_stream_features"],
        "reconcile_stream_features": [],
        "score_examples": [],
        "data_tests_passed": [],
    }


@pytest.mark.parametrize(
    ("marts", "tests", "pushed", "ends"),
    [
        ("success", "success", True, "success"),
        # D14: the features are pushed, and the run is red.
        ("success", "failed", True, "failed"),
        ("failed", "upstream_failed", False, "failed"),
    ],
)
def test_features_are_pushed_whatever_the_data_tests_find(
    dags: DagBag, marts: str, tests: str, pushed: bool, ends: str
) -> None:
    dag = dags.dags["fraud_pipeline"]
    states = {"dbt_marts": marts, "dbt_test": tests}
    for name in ("push_features_to_redis", "reconcile_stream_features", "score_examples", "data_tests_passed"):
        task = dag.get_task(name)
        states[name] = _state_of(str(task.trigger_rule.value), [states[up] for up in task.upstream_task_ids])
    assert (states["push_features_to_redis"] == "success") is pushed
    assert states["reconcile_stream_features"] == states["push_features_to_redis"]
    # Airflow judges a run by its last tasks.
    last = {states[task.task_id] for task in dag.leaves}
    assert ("success" if last == {"success"} else "failed") == ends


def _state_of(rule: str, upstream: list[str]) -> str:
    """How a task that can't fail ends, by Airflow's description of the two rules that the DAG uses."""
    may_run = {"all_success": all, "all_done_min_one_success": any}[rule](state == "success" for state in upstream)
    return "success" if may_run else "upstream_failed"


def test_examples_are_scored_by_the_model_that_serves_after_training(dags: DagBag) -> None:
    assert chain_of(dags.dags["model_training"]) == ["train_and_promote", "score_examples"]


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("fraud_pipeline", "push_features_to_redis"),
        ("fraud_pipeline", "score_examples"),
        ("model_training", "train_and_promote"),
    ],
)
def test_without_phase_4_its_tasks_are_skipped(dags: DagBag, dag_id: str, task_id: str) -> None:
    # Where the test runs there is none of its services.
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


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the image that is its PYTHONPATH, with what the Dockerfile copies there."""
    folder = tmp_path_factory.mktemp("platform")
    for source, target in re.findall(
        r"^COPY \S+ (\S+?)/? /opt/platform/(\S*?)/?$", (AIRFLOW / "Dockerfile").read_text(), re.MULTILINE
    ):
        (folder / (target or Path(source).name)).symlink_to(REPOSITORY / source)
    return folder


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("push-features", "serving.feature_writer"),
        ("reconcile-features", "feature_store.reconcile"),
        ("train-model", "training_runs.client"),
        ("score-examples", "training_runs.client"),
    ],
)
def test_what_the_tasks_import_is_in_their_image(platform: Path, command: str, module: str) -> None:
    assert f"python3 -m {module}" in (AIRFLOW / "bin" / command).read_text()
    environment = os.environ | {"PYTHONPATH": str(platform)}
    subprocess.run(["python3", "-c", f"import {module}"], env=environment, cwd="/", check=True)


def test_maintenance_goes_on_after_a_failure_and_is_red_then(dags: DagBag) -> None:
    dag = dags.dags["lakehouse_maintenance"]
    steps = [
        "archive_predictions", "retire_days", "compact", "vacuum", "expire", "shorten_logs", "expire_task_logs",
        "clean_airflow_database",
    ]  # fmt: skip
    last = dag.get_task("all_succeeded")
    assert last.upstream_task_ids == set(steps) and last.trigger_rule == "all_success"
    for task, following in pairwise(map(dag.get_task, steps)):
        assert following.task_id in task.downstream_task_ids
        assert following.trigger_rule == "all_done"


@pytest.mark.parametrize(
    ("dag_id", "cron"),
    [("fraud_pipeline", "*/15 * * * *"), ("lakehouse_maintenance", "30 2 * * *"), ("model_training", "0 4 * * 0")],
)
def test_runs_are_scheduled_and_never_overlap(dags: DagBag, dag_id: str, cron: str) -> None:
    dag = dags.dags[dag_id]
    assert dag.schedule == cron
    assert dag.max_active_runs == 1
    assert not dag.catchup
    # The pipeline starts at once, the other two at their next scheduled time.
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

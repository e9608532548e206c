"""The lakehouse programs without Trino: when Bronze is behind, and which failed runs stop the start of the platform."""

from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from lakehouse.connection import LakehouseSettings
from lakehouse.first_run import explain_failure, failed_tasks, has_built_gold
from lakehouse.freshness import Backlog, PartitionOffsets
from lakehouse.maintenance import Table, equals, lasting
from lakehouse.prediction_archives import at, value
from lakehouse.start_training import start_training

NO_AIRFLOW = httpx.Client(base_url="http://no-such-host.invalid")


@pytest.mark.parametrize(
    ("offsets", "backlog"),
    [
        # A3: a quiet topic, whether its messages are still there or not.
        (PartitionOffsets(first=0, end=10, committed=10, young=-1), Backlog(0, 0)),
        (PartitionOffsets(first=10, end=10, committed=10, young=-1), Backlog(0, 0)),
        (PartitionOffsets(first=0, end=0, committed=-1001, young=-1), Backlog(0, 0)),
        # All that waits is younger than the limit.
        (PartitionOffsets(first=0, end=10, committed=4, young=4), Backlog(6, 0)),
        # Some or all of it is older.
        (PartitionOffsets(first=0, end=10, committed=4, young=7), Backlog(6, 3)),
        (PartitionOffsets(first=0, end=10, committed=4, young=-1), Backlog(6, 6)),
        # Bronze has taken nothing yet; Kafka has deleted what it had not taken.
        (PartitionOffsets(first=0, end=10, committed=-1001, young=-1), Backlog(10, 10)),
        (PartitionOffsets(first=8, end=10, committed=4, young=9), Backlog(2, 1)),
        # The topic was deleted and made again.
        (PartitionOffsets(first=0, end=3, committed=10, young=-1), Backlog(0, 0)),
    ],
)
def test_what_bronze_has_not_taken(offsets: PartitionOffsets, backlog: Backlog) -> None:
    assert offsets.backlog() == backlog


def test_the_limit_has_a_default_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRONZE_MAX_AGE_MINUTES", "")
    assert load_settings(LakehouseSettings).bronze_max_age_minutes == 30
    monkeypatch.setenv("BRONZE_MAX_AGE_MINUTES", "soon")
    with pytest.raises(UserError, match="BRONZE_MAX_AGE_MINUTES=soon"):
        load_settings(LakehouseSettings)


def test_only_tasks_that_failed_themselves_are_reasons() -> None:
    tasks = [
        {"task_id": "dbt_marts", "state": "failed"},
        {"task_id": "dbt_test", "state": "upstream_failed"},
        {"task_id": "dbt_seed", "state": "success"},
    ]
    assert failed_tasks(tasks) == ["dbt_marts"]


def test_a_run_without_a_failed_task_is_still_a_failure() -> None:
    """As after a run's time-out: its tasks are skipped."""
    with pytest.raises(UserError, match="failed at"):
        explain_failure(NO_AIRFLOW, "/", [{"task_id": "dbt_marts", "state": "skipped"}])


@pytest.mark.parametrize("built", [False, True])
def test_only_a_run_that_built_gold_counts_as_the_first(built: bool) -> None:
    """Before the first payment, runs are skipped and succeed."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v2/dags/fraud_pipeline/dagRuns/~/taskInstances"
        assert (request.url.params["task_id"], request.url.params["state"]) == ("dbt_marts", "success")
        return httpx.Response(200, json={"task_instances": [], "total_entries": int(built)})

    client = httpx.Client(base_url="http://airflow.invalid", transport=httpx.MockTransport(answer))
    assert has_built_gold(client) is built


def airflow_that_trains(paused: bool, under_way: list[str]) -> httpx.Client:
    """An Airflow that starts the run `new`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v2/dags/model_training":
            return httpx.Response(200, json={"is_paused": paused})
        assert request.url.path == "/api/v2/dags/model_training/dagRuns"
        if request.method == "POST":
            return httpx.Response(200, json={"dag_run_id": "new"})
        assert request.url.params.get_list("state") == ["queued", "running"]
        return httpx.Response(200, json={"dag_runs": [{"dag_run_id": run} for run in under_way]})

    return httpx.Client(base_url="http://airflow.invalid", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(("under_way", "run"), [([], "new"), (["scheduled"], "scheduled")])
def test_training_is_started_once(under_way: list[str], run: str) -> None:
    assert start_training(airflow_that_trains(False, under_way)) == run


def test_a_paused_dag_does_not_train() -> None:
    with pytest.raises(UserError, match="make ml-train"):
        start_training(airflow_that_trains(True, []))


def test_what_dbt_leaves_behind_is_not_maintained() -> None:
    tables = [Table("gold", "mart"), Table("gold", "mart__dbt_tmp"), Table("gold", "mart__dbt_backup")]
    assert lasting(tables) == [Table("gold", "mart")]


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        (None, '"p" is null'),
        (date(2024, 3, 1), "\"p\" = date '2024-03-01'"),
        ("O'Brien", "\"p\" = 'O''Brien'"),
        (3, '"p" = 3'),
    ],
)
def test_a_partition_is_chosen_by_its_value(value: object, condition: str) -> None:
    assert equals("p", value) == condition


@pytest.mark.parametrize(
    ("begin", "condition"),
    [
        (
            datetime(2026, 10, 27, 23, tzinfo=UTC),
            "t >= timestamp '2026-10-27 23:00:00 UTC' and t < timestamp '2026-10-28 00:00:00 UTC'",
        ),
        # A wrong clock.
        (
            datetime(1, 1, 2, tzinfo=UTC),
            "t >= timestamp '0001-01-02 00:00:00 UTC' and t < timestamp '0001-01-02 01:00:00 UTC'",
        ),
    ],
)
def test_an_hour_of_rows(begin: datetime, condition: str) -> None:
    assert at("t", begin, begin + timedelta(hours=1)) == condition


def test_a_time_is_archived_in_its_hour() -> None:
    """Trino rounds where it casts: 59.9996 s would be in the next hour."""
    assert value("t", "time") == "cast(date_trunc('millisecond', t) as timestamp(3) with time zone)"

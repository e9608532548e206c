"""The lakehouse programs without Trino: how old Bronze may be, and which failed runs stop the start of the platform."""

from datetime import date, timedelta

import httpx
import pytest
from fraud_common.errors import UserError
from fraud_common.settings import load_settings
from lakehouse.connection import LakehouseSettings
from lakehouse.first_run import explain_failure, failed_tasks
from lakehouse.freshness import complaint
from lakehouse.maintenance import Table, equals, lasting

NO_AIRFLOW = httpx.Client(base_url="http://no-such-host.invalid")


def test_bronze_is_stale_beyond_the_limit() -> None:
    assert complaint(timedelta(minutes=30), 30) is None
    assert "loaded 31 min ago (limit 30 min)" in (complaint(timedelta(minutes=31), 30) or "")


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

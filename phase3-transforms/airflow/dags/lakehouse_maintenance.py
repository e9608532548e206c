"""The housekeeping, every night: archive or delete what is older than its retention, merge small files, vacuum.

docs/operations.md lists what grows and what ends it. Spark removes the old files of its own checkpoints itself.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, chain, task


@task(execution_timeout=timedelta(hours=1))
def retire_days() -> None:
    """Delete the days that are older than LAKEHOUSE_RETENTION_DAYS."""
    from datetime import UTC, datetime

    from fraud_common.settings import load_settings
    from lakehouse.connection import lakehouse_cursor
    from lakehouse.retention import RetentionSettings
    from lakehouse.retention import retire_days as retire

    with lakehouse_cursor() as trino:
        retire(trino, load_settings(RetentionSettings), datetime.now(UTC))


@task(execution_timeout=timedelta(hours=4))
def archive_predictions() -> str:
    """Move what is older than PREDICTIONS_RETENTION_DAYS from Postgres to Gold, and delete as old labels."""
    from lakehouse import archive

    return archive.archive_predictions()


@task(execution_timeout=timedelta(hours=2))
def compact() -> None:
    """Rewrite small files, table by table."""
    from lakehouse.connection import lakehouse_cursor
    from lakehouse.maintenance import compact_tables

    with lakehouse_cursor() as trino:
        compact_tables(trino)


@task(execution_timeout=timedelta(hours=1))
def vacuum() -> None:
    """Delete files that no version of the last seven days needs."""
    from lakehouse.connection import lakehouse_cursor
    from lakehouse.maintenance import vacuum_tables

    with lakehouse_cursor() as trino:
        vacuum_tables(trino)


@task(execution_timeout=timedelta(minutes=30))
def expire() -> None:
    """Drop the temporary tables of dbt runs that crashed."""
    from lakehouse.connection import lakehouse_cursor
    from lakehouse.maintenance import drop_leftovers

    with lakehouse_cursor() as trino:
        drop_leftovers(trino)


@task(execution_timeout=timedelta(minutes=30))
def shorten_logs() -> None:
    """Delete entries of Delta's logs that are older than 30 days."""
    from fraud_common.settings import load_settings
    from lakehouse.connection import lakehouse_cursor
    from lakehouse.retention import RetentionSettings, clean_logs

    with lakehouse_cursor() as trino:
        clean_logs(trino, load_settings(RetentionSettings))


def command(name: str) -> BashOperator:
    """One of the programs of the image as a task."""
    return BashOperator(task_id=name.replace("-", "_"), bash_command=name, execution_timeout=timedelta(minutes=30))


with DAG(
    dag_id="lakehouse_maintenance",
    description="Compact, vacuum and clear up, every night",
    schedule="30 2 * * *",
    # No start_date: a fresh stack waits for the next night instead of catching up with the last one.
    catchup=False,
    max_active_runs=1,
    # One after the other, whatever became of those before: none needs another.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "trigger_rule": TriggerRule.ALL_DONE},
    tags=["phase 3"],
    doc_md=__doc__,
):
    steps = [
        archive_predictions(),
        retire_days(),
        compact(),
        vacuum(),
        expire(),
        shorten_logs(),
        command("expire-task-logs"),
        command("clean-airflow-database"),
    ]
    chain(*steps)
    # A run fails if its last task does, so this one makes it red when any step failed.
    all_succeeded = EmptyOperator(
        task_id="all_succeeded", trigger_rule=TriggerRule.ALL_SUCCESS, execution_timeout=timedelta(minutes=1)
    )
    steps >> all_succeeded

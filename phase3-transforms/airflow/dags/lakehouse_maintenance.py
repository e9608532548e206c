"""The housekeeping of every night: archive old predictions, merge small files, delete what is no longer needed.

Spark removes the old files of its own checkpoints itself.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, chain, task


@task(execution_timeout=timedelta(hours=4))
def archive_predictions() -> str:
    """Move what is older than PREDICTIONS_RETENTION_DAYS from Postgres to Gold, and delete as old labels."""
    from lakehouse import archive

    return archive.archive_predictions()


# Also if nothing could be archived.
@task(execution_timeout=timedelta(hours=2), trigger_rule="all_done")
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


with DAG(
    dag_id="lakehouse_maintenance",
    description="Compact, vacuum and clear up, every night",
    schedule="30 2 * * *",
    # No start_date: a fresh stack waits for the next night instead of catching up with the last one.
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["phase 3"],
    doc_md=__doc__,
):
    chain(
        archive_predictions(),
        compact(),
        vacuum(),
        expire(),
        BashOperator(
            task_id="expire_task_logs",
            bash_command="find /opt/airflow/logs -type f -mtime +30 -delete"
            " && find /opt/airflow/logs -mindepth 1 -type d -empty -mtime +30 -delete",
        ),
    )

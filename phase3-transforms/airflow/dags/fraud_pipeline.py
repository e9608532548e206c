"""Bronze to gold, every 15 minutes: is Bronze fresh, then dbt layer by layer, its tests, and the features to Redis.

Upstream is spark-streaming, which fills Bronze; downstream is whoever reads the gold tables, and the scoring API.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, chain, task
from deadlines import log_missed_deadline

# A run that takes longer is still allowed to end, but somebody is told.
DEADLINE = timedelta(minutes=12)


def dbt(name: str, arguments: str, minutes: int) -> BashOperator:
    """One dbt command as a task; dbt-run waits for any other that is under way."""
    return BashOperator(task_id=name, bash_command=f"dbt-run {arguments}", execution_timeout=timedelta(minutes=minutes))


@task(execution_timeout=timedelta(minutes=2))
def bronze_freshness_check() -> None:
    """Fails with one sentence when Bronze is missing or older than BRONZE_MAX_AGE_MINUTES."""
    # Imported here: the file is read at the start of every task, and most of them don't need Trino.
    from lakehouse.freshness import check_bronze_freshness
    from lakehouse.register import register_bronze
    from lakehouse.trino_connection import cursor

    with cursor() as trino:
        register_bronze(trino)
        check_bronze_freshness(trino)


with DAG(
    dag_id="fraud_pipeline",
    description="Bronze to gold with dbt, every 15 minutes",
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=45),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=5),
    },
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=DEADLINE,
        callback=AsyncCallback(log_missed_deadline),
    ),
    tags=["phase 3"],
    doc_md=__doc__,
):
    chain(
        bronze_freshness_check(),
        dbt("dbt_seed", "seed", minutes=3),
        dbt("dbt_staging", "run --select staging", minutes=10),
        dbt("dbt_intermediate", "run --select intermediate", minutes=10),
        dbt("dbt_marts", "run --select marts", minutes=15),
        # Unit tests prove the SQL, not the data: they run where the code is tested.
        dbt("dbt_test", "test --exclude-resource-type unit_test", minutes=10),
        # Exit code 99 is Airflow's word for skipped.
        BashOperator(
            task_id="push_features_to_redis",
            bash_command="phase-4-is-up || exit 99; push-features",
            execution_timeout=timedelta(minutes=10),
        ),
        # What the stream keeps, beside what was pushed just now; skipped where no stream has run yet.
        BashOperator(
            task_id="reconcile_stream_features",
            bash_command="reconcile-features",
            execution_timeout=timedelta(minutes=5),
        ),
    )

"""Bronze to gold, every 15 minutes: check that Bronze is fresh, run dbt layer by layer, test, and push the features.

The features are pushed even if a data test fails, since stale features would be worse. The run is red all the same.

Upstream is spark-streaming, which fills Bronze; downstream are the readers of the gold tables and the scoring API.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, TriggerRule, chain, task
from deadlines import log_missed_deadline

# A run that takes longer may still end, but an error is logged.
DEADLINE = timedelta(minutes=12)


def dbt(name: str, arguments: str, minutes: int) -> BashOperator:
    """One dbt command as a task; dbt-run waits while another one is under way."""
    return BashOperator(task_id=name, bash_command=f"dbt-run {arguments}", execution_timeout=timedelta(minutes=minutes))


@task(execution_timeout=timedelta(minutes=2))
def bronze_freshness_check() -> None:
    """Fail with one sentence if messages have waited in Kafka for BRONZE_MAX_AGE_MINUTES; a quiet topic is fine.

    Before the first payment there is nothing to do: the run is skipped.
    """
    # Imported here: the file is read at the start of every task, and most tasks don't need Trino.
    from airflow.sdk.exceptions import AirflowSkipException
    from fraud_common.settings import KafkaSettings, load_settings
    from lakehouse.connection import LakehouseSettings, lakehouse_cursor
    from lakehouse.freshness import check_bronze_freshness, has_payments

    limit_minutes = load_settings(LakehouseSettings).bronze_max_age_minutes
    with lakehouse_cursor() as trino:
        print(check_bronze_freshness(trino, load_settings(KafkaSettings), limit_minutes))
        if not has_payments(trino):
            raise AirflowSkipException("Bronze has no payments yet; nothing to do")


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
    marts = dbt("dbt_marts", "run --select marts", minutes=15)
    # Unit tests prove the SQL, not the data: they run where the code is tested.
    data_tests = dbt("dbt_test", "test --exclude-resource-type unit_test", minutes=10)
    push_features = BashOperator(
        task_id="push_features_to_redis",
        # Exit code 99 means skipped to Airflow.
        bash_command="phase-4-is-up || exit 99; push-features",
        # After the data tests, whatever they found; but not without marts.
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        execution_timeout=timedelta(minutes=10),
    )
    # Compare the stream's features with those that were just pushed; skipped if no stream has run yet.
    reconcile = BashOperator(
        task_id="reconcile_stream_features",
        bash_command="reconcile-features",
        execution_timeout=timedelta(minutes=5),
    )
    # What has matured since the last run gets a score, for backtests of rules.
    score_examples = BashOperator(
        task_id="score_examples",
        bash_command="phase-4-is-up || exit 99; score-examples",
        execution_timeout=timedelta(minutes=30),
    )
    chain(
        bronze_freshness_check(),
        dbt("dbt_seed", "seed", minutes=3),
        dbt("dbt_staging", "run --select staging", minutes=10),
        dbt("dbt_intermediate", "run --select intermediate", minutes=10),
        marts,
        data_tests,
        push_features,
        reconcile,
    )
    marts >> [push_features, score_examples]
    # A run fails if one of its last tasks does, so this one makes it red when a data test failed.
    data_tests >> EmptyOperator(task_id="data_tests_passed", execution_timeout=timedelta(minutes=1))

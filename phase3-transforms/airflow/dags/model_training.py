"""A new model every week, from the matured payments in Gold; it becomes Production if it is better than that.

Upstream is fraud_pipeline, which fills mart_training_examples; downstream is the scoring API, which loads a new
Production model by itself. If the model is refused, the run still succeeds: the log and MLflow say why. It is
skipped while there are too few examples for one. Then the model that serves scores the examples, for backtests.

The container `training` does the work, with a memory limit of its own; the task shows its output. A task that is
stopped stops the run. After a restart of the scheduler, the retry joins the run, or takes its result.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference
from deadlines import log_missed_deadline

# A run that takes longer may still end, but an error is logged.
DEADLINE = timedelta(hours=1)


with DAG(
    dag_id="model_training",
    description="Train, compare with Production, promote under the rules, every week",
    schedule="0 4 * * 0",
    # No start_date: a fresh stack waits for the next Sunday instead of catching up with the last one.
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
    },
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=DEADLINE,
        callback=AsyncCallback(log_missed_deadline),
    ),
    tags=["phase 4"],
    doc_md=__doc__,
):
    train_and_promote = BashOperator(
        task_id="train_and_promote",
        # Exit code 99 means skipped to Airflow.
        bash_command="phase-4-is-up || exit 99; train-model --skip-if-too-few",
        execution_timeout=timedelta(hours=2),
    )
    score_examples = BashOperator(
        task_id="score_examples", bash_command="score-examples", execution_timeout=timedelta(hours=1)
    )
    train_and_promote >> score_examples

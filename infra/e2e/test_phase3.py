"""Phase 3 on the stack as a user has it: a run of the pipeline under load, kills in its middle, then the oracle."""

import re
import time
from datetime import datetime
from typing import Any

import httpx
import pandas as pd
import pytest
from fraud_common.settings import load_settings
from kills import container_of, kill_main_process
from lake import delta_table, rows
from lakehouse import start_training
from lakehouse.first_run import PIPELINE, AirflowSettings, connect, end_of_log
from oracle import assert_same, current_features, data_clock, training_example

PERIOD_SECONDS = 2


@pytest.fixture(scope="module")
def airflow() -> httpx.Client:
    return connect("http://airflow-api-server:8080", load_settings(AirflowSettings))


def start_run(airflow: httpx.Client) -> str:
    """Start a run now; returns its id."""
    now = pd.Timestamp.now("UTC").isoformat()
    answer = airflow.post(f"/api/v2/dags/{PIPELINE}/dagRuns", json={"logical_date": now, "dag_run_id": f"e2e-{now}"})
    return answer.raise_for_status().json()["dag_run_id"]


def ask(airflow: httpx.Client, path: str) -> dict[str, Any] | None:
    """Airflow's answer; None while it is not there."""
    try:
        answer = airflow.get(path)
    except httpx.HTTPError:
        return None
    return answer.json() if answer.is_success else None


def wait_for_run(airflow: httpx.Client, run: str, dag: str = PIPELINE, seconds: float = 900) -> datetime:
    """Wait until the run has succeeded; returns when it ended."""
    end = time.monotonic() + seconds
    path = f"/api/v2/dags/{dag}/dagRuns/{run}"
    while (answer := ask(airflow, path) or {}).get("state") != "success":
        assert answer.get("state") != "failed", f"{run} failed"
        assert time.monotonic() < end, f"{run} is {answer.get('state')} after {seconds} s"
        time.sleep(PERIOD_SECONDS)
    return datetime.fromisoformat(answer["end_date"])


def task_state(airflow: httpx.Client, run: str, task: str) -> str | None:
    """The state of a run's task; None while it has none, or Airflow does not answer."""
    return (ask(airflow, f"/api/v2/dags/{PIPELINE}/dagRuns/{run}/taskInstances/{task}") or {}).get("state")


def run_to_hit(airflow: httpx.Client) -> str:
    """The schedule's run if one is under way and has not reached its marts, else one started now.

    Airflow does one run at a time: a new one would only wait for the other's end.
    """
    under_way = airflow.get(f"/api/v2/dags/{PIPELINE}/dagRuns", params={"state": "running"}).raise_for_status()
    for run in under_way.json()["dag_runs"]:
        if task_state(airflow, run["dag_run_id"], "dbt_marts") not in ("running", "success"):
            return run["dag_run_id"]
    return start_run(airflow)


def wait_for_task(airflow: httpx.Client, run: str, task: str) -> None:
    """Wait until the task of a run is running."""
    end = time.monotonic() + 600
    while (state := task_state(airflow, run, task)) != "running":
        assert state != "success", f"{task} was over before it was seen"
        assert time.monotonic() < end, f"{task} is {state} after 600 s"
        time.sleep(0.3)


def count(table: str) -> int:
    return int(rows(f"select count(*) from {table}").iloc[0, 0])


def test_gold_has_data_when_make_up_returns() -> None:
    for mart in ("mart_fraud_features", "mart_merchant_risk", "mart_hourly_metrics", "mart_user_risk_profiles"):
        assert count(f"gold.{mart}") > 0, mart


def test_the_first_model_was_made_by_its_dag_in_the_container_of_training(airflow: httpx.Client) -> None:
    """Field case F7: make up has made it; here is what Airflow knows of it."""
    runs = airflow.get(start_training.RUNS, params={"order_by": "run_after", "limit": 1}).raise_for_status()
    run = runs.json()["dag_runs"][0]["dag_run_id"]
    # Then it scores the examples, for backtests.
    wait_for_run(airflow, run, start_training.DAG, 300)
    tasks = f"{start_training.RUNS}/{run}/taskInstances"
    of_run = airflow.get(tasks).raise_for_status().json()["task_instances"]
    (task,) = [each for each in of_run if each["task_id"] == "train_and_promote"]
    log = end_of_log(airflow, tasks, task, lines=1000)
    container = container_of("training")
    limit = container.attrs["HostConfig"]["Memory"] // 2**20
    assert f"run {run} in container {container.id[:12]}, {limit:,} MiB of memory" in log, log
    assert "→ Production" in log, log
    peak = re.search(r"took .* MiB of memory", log)
    assert peak, log
    print(f"| training, from Airflow | {peak[0]} of {limit:,} MiB |")


@pytest.fixture(scope="module")
def healed_run(airflow: httpx.Client) -> datetime:
    """A run under load with kill -9 of Trino and of the scheduler while it builds the marts; returns when it ended."""
    run = run_to_hit(airflow)
    print(f"| the run that is hit | {run} |")
    wait_for_task(airflow, run, "dbt_marts")
    kill_main_process("trino")
    kill_main_process("airflow-scheduler")
    return wait_for_run(airflow, run)


def test_gold_equals_the_oracle_after_kills_in_mid_run(healed_run: datetime) -> None:
    """The run that was hit brings Gold up to date: it equals the oracle's result on the Silver of the run."""
    silver = delta_table("silver/stg_transactions", healed_run).to_pandas().astype({"amount": float})
    labels = delta_table("silver/stg_labels", healed_run).to_pandas()
    merchants = rows("select * from silver.merchants")
    examples = delta_table("gold/mart_training_examples", healed_run).to_pandas().set_index("transaction_id")
    features = delta_table("gold/mart_fraud_features", healed_run).to_pandas().set_index("user_id")
    assert silver["transaction_id"].is_unique
    clock = data_clock(silver)
    matured = silver[silver["event_time"] <= clock - pd.Timedelta(days=14)]
    assert sorted(matured["transaction_id"]) == sorted(examples.index)
    for _, payment in matured.sample(200, random_state=1).iterrows():
        expected = training_example(payment, silver, labels, merchants)
        assert_same(examples.loc[payment["transaction_id"]].to_dict(), expected, payment["transaction_id"])
    for user in features.sample(100, random_state=1).index:
        expected = current_features(user, silver, labels, clock)
        assert_same(features.loc[user].to_dict(), expected, user)
    print(f"| Gold | examples {len(examples):,} | users {len(features):,} | all equal to the oracle |")


def test_silver_has_every_payment_of_bronze_that_the_run_saw(healed_run: datetime) -> None:
    """Each once, copies and all: Bronze up to the newest load that Silver has."""
    silver = delta_table("silver/stg_transactions", healed_run).to_pandas(columns=["transaction_id", "loaded_at"])
    bronze = delta_table("bronze/transactions", healed_run).to_pandas(columns=["transaction_id", "loaded_at"])
    # Silver keeps milliseconds.
    seen = bronze[bronze["loaded_at"].dt.floor("ms") <= silver["loaded_at"].max()]
    assert set(seen["transaction_id"]) == set(silver["transaction_id"])
    assert silver["transaction_id"].is_unique

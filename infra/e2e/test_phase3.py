"""Phase 3 on the stack as a user has it: the pipeline under the producer's load, kills in mid run, then the oracle."""

import os
import re
import time
from typing import Any

import docker
import httpx
import pandas as pd
import pytest
from docker.models.containers import Container
from lake import delta_table, rows
from lakehouse.first_run import PIPELINE, connect
from oracle import assert_same, current_features, training_example

PERIOD_SECONDS = 2


@pytest.fixture(scope="module")
def airflow() -> httpx.Client:
    return connect(
        "http://airflow-api-server:8080", os.environ["AIRFLOW_ADMIN_USER"], os.environ["AIRFLOW_ADMIN_PASSWORD"], 120
    )


def service(name: str) -> Container:
    project = os.environ["COMPOSE_PROJECT_NAME"]
    labels = [f"com.docker.compose.project={project}", f"com.docker.compose.service={name}"]
    (container,) = docker.from_env().containers.list(all=True, filters={"label": labels})
    return container


def kill_main_process(name: str) -> None:
    """kill -9 inside the container, so that Docker starts it again as after any crash."""
    service(name).exec_run(["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"], user="0")


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


def wait_for_run(airflow: httpx.Client, run: str, seconds: float = 900) -> None:
    """Until the run has succeeded."""
    end = time.monotonic() + seconds
    path = f"/api/v2/dags/{PIPELINE}/dagRuns/{run}"
    while (state := (ask(airflow, path) or {}).get("state")) != "success":
        assert state != "failed", f"{run} failed"
        assert time.monotonic() < end, f"{run} is {state} after {seconds} s"
        time.sleep(PERIOD_SECONDS)


def wait_for_task(airflow: httpx.Client, run: str, task: str) -> None:
    """Until the task of a run is at work."""
    end = time.monotonic() + 600
    path = f"/api/v2/dags/{PIPELINE}/dagRuns/{run}/taskInstances/{task}"
    while (state := (ask(airflow, path) or {}).get("state")) != "running":
        assert state != "success", f"{task} was over before it was seen"
        assert time.monotonic() < end, f"{task} is {state} after 600 s"
        time.sleep(0.3)


def count(table: str) -> int:
    return int(rows(f"select count(*) from {table}").iloc[0, 0])


def wait_until_bronze_has_all() -> None:
    """Until whatever was sent is in Bronze, or a dead letter."""
    end = time.monotonic() + 300
    while (lag := bronze_lag()) != 0:
        assert time.monotonic() < end, f"Bronze lacks {lag:,.0f} messages after 300 s"
        time.sleep(PERIOD_SECONDS)


def bronze_lag() -> float:
    """Messages that the Bronze writer has not committed."""
    text = httpx.get("http://kafka-exporter:9308/metrics", timeout=10).raise_for_status().text
    lags = [line for line in text.splitlines() if re.match(r'kafka_consumergroup_lag_sum\{.*"bronze-writer"', line)]
    assert len(lags) == 2, "of transactions and labels"
    return sum(float(line.rpartition(" ")[2]) for line in lags)


def test_gold_has_data_when_make_up_returns() -> None:
    for mart in ("mart_fraud_features", "mart_merchant_risk", "mart_hourly_metrics", "mart_user_risk_profiles"):
        assert count(f"gold.{mart}") > 0, mart


def test_kills_in_mid_run_are_healed(airflow: httpx.Client) -> None:
    """kill -9 of Trino and of the scheduler; the run that was hit brings Gold up to date under load, as any other."""
    before = count("silver.stg_transactions")
    run = start_run(airflow)
    wait_for_task(airflow, run, "dbt_marts")
    kill_main_process("trino")
    wait_for_task(airflow, run, "dbt_test")
    kill_main_process("airflow-scheduler")
    wait_for_run(airflow, run)
    assert count("silver.stg_transactions") > before


def test_gold_equals_the_oracle(airflow: httpx.Client) -> None:
    """After all that; what is in Silver by now is what Gold was built from, once a last run has ended undisturbed."""
    service("producer").stop(timeout=60)
    wait_until_bronze_has_all()
    wait_for_run(airflow, start_run(airflow))
    silver = delta_table("silver/stg_transactions").to_pandas().astype({"amount": float})
    labels = delta_table("silver/stg_labels").to_pandas()
    merchants = rows("select * from silver.merchants")
    examples = delta_table("gold/mart_training_examples").to_pandas().set_index("transaction_id")
    features = delta_table("gold/mart_fraud_features").to_pandas().set_index("user_id")
    assert silver["transaction_id"].is_unique
    settled = silver[silver["event_time"] <= silver["event_time"].max() - pd.Timedelta(days=14)]
    assert sorted(settled["transaction_id"]) == sorted(examples.index)
    for _, payment in settled.sample(200, random_state=1).iterrows():
        expected = training_example(payment, silver, labels, merchants)
        assert_same(examples.loc[payment["transaction_id"]].to_dict(), expected, payment["transaction_id"])
    for user in features.sample(100, random_state=1).index:
        expected = current_features(user, silver, labels, silver["event_time"].max())
        assert_same(features.loc[user].to_dict(), expected, user)
    print(f"| Gold | examples {len(examples):,} | users {len(features):,} | all equal to the oracle |")

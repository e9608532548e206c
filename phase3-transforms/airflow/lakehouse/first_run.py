"""The first run of the pipeline on a fresh stack: starts the schedules, and waits until Gold is there.

python -m lakehouse.first_run

DAGs are paused when Airflow first sees them, so that none starts before Bronze holds the history. Where the pipeline
has run before, nothing is done: who paused it since has a reason.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import httpx

from lakehouse.trino_connection import LakehouseError

PIPELINE = "fraud_pipeline"
DAGS = (PIPELINE, "lakehouse_maintenance", "model_training")
POLL_SECONDS = 3
ENDED = ("success", "failed", "skipped")


def connect(url: str, user: str, password: str, seconds: float) -> httpx.Client:
    """A client with a token, once Airflow knows the DAGs; LakehouseError where that takes too long."""
    end = time.monotonic() + seconds
    client = httpx.Client(base_url=url, timeout=30)
    while True:
        problem = f"Airflow does not know {PIPELINE} yet: docker compose logs airflow-dag-processor"
        try:
            token = client.post("/auth/token", json={"username": user, "password": password}).raise_for_status().json()
            client.headers["Authorization"] = f"Bearer {token['access_token']}"
            if all(client.get(f"/api/v2/dags/{dag}").is_success for dag in DAGS):
                return client
        except httpx.HTTPError as error:
            problem = f"Airflow does not answer at {url} ({error}): docker compose logs airflow-api-server"
        if time.monotonic() > end:
            raise LakehouseError(problem)
        time.sleep(POLL_SECONDS)


def runs(client: httpx.Client) -> list[dict[str, Any]]:
    """The pipeline's runs, the newest first."""
    answer = client.get(f"/api/v2/dags/{PIPELINE}/dagRuns", params={"order_by": "-run_after", "limit": 5})
    return answer.raise_for_status().json()["dag_runs"]


def start_schedules(client: httpx.Client) -> None:
    """Unpause all DAGs; Airflow then starts the run that is due."""
    for dag in DAGS:
        client.patch(f"/api/v2/dags/{dag}", json={"is_paused": False}).raise_for_status()


def end_of_log(client: httpx.Client, path: str, task: dict[str, Any], lines: int = 30) -> str:
    """The last lines that a task has written."""
    log = client.get(
        f"{path}/{task['task_id']}/logs/{task['try_number']}",
        params={"full_content": True},
        headers={"Accept": "application/x-ndjson"},
    )
    events = [json.loads(line).get("event", "") for line in log.text.splitlines() if line.startswith("{")]
    return "\n".join(f"  {event}" for event in events[-lines:])


def follow(client: httpx.Client) -> None:
    """Print each task of the first run as it ends; LakehouseError where the run fails."""
    told: set[str] = set()
    while True:
        for run in runs(client)[-1:]:
            path = f"/api/v2/dags/{PIPELINE}/dagRuns/{run['dag_run_id']}/taskInstances"
            tasks = client.get(path).raise_for_status().json()["task_instances"]
            for task in tasks:
                if task["state"] in ENDED and task["task_id"] not in told:
                    told.add(task["task_id"])
                    print(f"  {task['task_id']:<24} {task['state']:<8} {task['duration'] or 0:>6.1f} s", flush=True)
            if run["state"] == "success":
                return
            if run["state"] == "failed":
                failed = next(task for task in tasks if task["state"] == "failed")
                print(end_of_log(client, path, failed), flush=True)
                raise LakehouseError(
                    f"the first run of {PIPELINE} failed at {failed['task_id']}; the end of its log stands above"
                )
        time.sleep(POLL_SECONDS)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.first_run", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://airflow-api-server:8080", help="Airflow (default: %(default)s)")
    parser.add_argument("--no-wait", action="store_true", help="start the schedules only")
    arguments = parser.parse_args()
    try:
        client = connect(
            arguments.url, os.environ["AIRFLOW_ADMIN_USER"], os.environ["AIRFLOW_ADMIN_PASSWORD"], seconds=120
        )
        if any(run["state"] == "success" for run in runs(client)):
            return
        start_schedules(client)
        if not arguments.no_wait:
            follow(client)
    except (LakehouseError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

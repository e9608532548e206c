"""The first run of the pipeline on a fresh stack: start the schedules, and wait until Gold exists.

python -m lakehouse.first_run

DAGs are paused when Airflow first sees them, so that none starts before Bronze has the history. If the pipeline has
built Gold before, nothing is done, since it may have been paused for a reason.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import load_settings
from pydantic_settings import BaseSettings

AIRFLOW_URL = "http://airflow-api-server:8080"
PIPELINE = "fraud_pipeline"
DAGS = (PIPELINE, "lakehouse_maintenance", "model_training")
RUNS = f"/api/v2/dags/{PIPELINE}/dagRuns"
POLL_SECONDS = 3
CONNECT_SECONDS = 120
SCHEDULE_SECONDS = 60
ENDED = ("success", "failed", "skipped", "upstream_failed")
# Gold is complete after this task ...
MARTS = "dbt_marts"
# ... and before this one; if it fails, the platform can start all the same.
DATA_TESTS = "dbt_test"


class AirflowSettings(BaseSettings):
    """The administrator of Airflow."""

    airflow_admin_user: str = "admin"
    airflow_admin_password: str


def connect(url: str, settings: AirflowSettings) -> httpx.Client:
    """A client with a token, as soon as Airflow knows the DAGs.

    Raises:
        UserError: that takes longer than two minutes.
    """
    end = time.monotonic() + CONNECT_SECONDS
    login = {"username": settings.airflow_admin_user, "password": settings.airflow_admin_password}
    client = httpx.Client(base_url=url, timeout=30)
    while True:
        problem = f"Airflow does not know {PIPELINE} yet: docker compose logs airflow-dag-processor"
        try:
            token = client.post("/auth/token", json=login).raise_for_status().json()
            client.headers["Authorization"] = f"Bearer {token['access_token']}"
            if all(client.get(f"/api/v2/dags/{dag}").is_success for dag in DAGS):
                return client
        except httpx.HTTPError as error:
            problem = f"Airflow does not answer at {url} ({error}): docker compose logs airflow-api-server"
        if time.monotonic() > end:
            raise UserError(problem)
        time.sleep(POLL_SECONDS)


def runs(client: httpx.Client, **filters: Any) -> list[dict[str, Any]]:
    """The pipeline's runs that the filters choose, newest first, at most 100."""
    answer = client.get(RUNS, params={"order_by": "-run_after", "limit": 100, **filters})
    return answer.raise_for_status().json()["dag_runs"]


def has_built_gold(client: httpx.Client) -> bool:
    """Whether any run has. A run that found nothing to do has succeeded, too, and built nothing."""
    answer = client.get(f"{RUNS}/~/taskInstances", params={"task_id": MARTS, "state": "success", "limit": 1})
    return answer.raise_for_status().json()["total_entries"] > 0


def start_schedules(client: httpx.Client) -> None:
    """Unpause all DAGs."""
    for dag in DAGS:
        client.patch(f"/api/v2/dags/{dag}", json={"is_paused": False}).raise_for_status()


def run_to_follow(client: httpx.Client) -> str:
    """The id of a run that has not ended: one that exists, the one that Airflow starts by its schedule, or a new one.

    Runs that failed earlier don't matter: the reason may be gone.
    """
    # The schedule of a DAG that has just been unpaused starts a run at once, unless the scheduler is busy.
    end = time.monotonic() + SCHEDULE_SECONDS
    while not (known := runs(client)) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    under_way = [run["dag_run_id"] for run in known if run["state"] in ("queued", "running")]
    if under_way:
        return under_way[-1]
    answer = client.post(RUNS, json={"logical_date": datetime.now(UTC).isoformat()})
    return answer.raise_for_status().json()["dag_run_id"]


def failed_tasks(tasks: list[dict[str, Any]]) -> list[str]:
    """The tasks that failed themselves, not those that were not run because of them."""
    return [task["task_id"] for task in tasks if task["state"] == "failed"]


def end_of_log(client: httpx.Client, path: str, task: dict[str, Any], lines: int = 30) -> str:
    """The last lines that a task has written."""
    log = client.get(
        f"{path}/{task['task_id']}/logs/{task['try_number']}",
        params={"full_content": True},
        headers={"Accept": "application/x-ndjson"},
    )
    events = [json.loads(line).get("event", "") for line in log.text.splitlines() if line.startswith("{")]
    return "\n".join(f"  {event}" for event in events[-lines:])


def follow(client: httpx.Client, run_id: str) -> None:
    """Print each task of the run as it ends, until the run ends.

    Raises:
        UserError: the run failed before Gold was complete.
    """
    path = f"{RUNS}/{run_id}/taskInstances"
    printed: set[str] = set()
    while True:
        state = client.get(f"{RUNS}/{run_id}").raise_for_status().json()["state"]
        tasks = client.get(path).raise_for_status().json()["task_instances"]
        for task in tasks:
            if task["state"] in ENDED and task["task_id"] not in printed:
                printed.add(task["task_id"])
                print(f"  {task['task_id']:<24} {task['state']:<8} {task['duration'] or 0:>6.1f} s", flush=True)
        if state == "success":
            return
        if state == "failed":
            explain_failure(client, path, tasks)
            return
        time.sleep(POLL_SECONDS)


def explain_failure(client: httpx.Client, path: str, tasks: list[dict[str, Any]]) -> None:
    """Print the end of the log of each failed task.

    Raises:
        UserError: another task than the data tests failed.
    """
    failed = failed_tasks(tasks)
    for task in tasks:
        if task["task_id"] in failed:
            print(end_of_log(client, path, task), flush=True)
    if failed != [DATA_TESTS]:
        raise UserError(f"the run of {PIPELINE} failed at {', '.join(failed)}; the end of its log is above")
    print(f"  {DATA_TESTS} failed, see above; Gold exists, and the next run tests it again", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.first_run", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=AIRFLOW_URL, help="Airflow (default: %(default)s)")
    parser.add_argument("--no-wait", action="store_true", help="start the schedules only")
    arguments = parser.parse_args()
    with one_line_errors():
        try:
            client = connect(arguments.url, load_settings(AirflowSettings))
            if has_built_gold(client):
                return
            start_schedules(client)
            if not arguments.no_wait:
                follow(client, run_to_follow(client))
        except httpx.HTTPError as error:
            raise UserError(f"Airflow at {arguments.url}: {error}; docker compose logs airflow-api-server") from error


if __name__ == "__main__":
    main()

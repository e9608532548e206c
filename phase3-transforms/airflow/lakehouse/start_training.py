"""Start a run of the DAG model_training, or find the one that is under way, and print its id.

python -m lakehouse.start_training

`make up` makes the first model this way, so it is made as every later one.
"""

import argparse
from datetime import UTC, datetime

import httpx
from fraud_common.errors import UserError, one_line_errors
from fraud_common.settings import load_settings

from lakehouse.first_run import AIRFLOW_URL, AirflowSettings, connect

DAG = "model_training"
RUNS = f"/api/v2/dags/{DAG}/dagRuns"


def start_training(client: httpx.Client) -> str:
    """The id of the run under way, or of a new one.

    Raises:
        UserError: the DAG is paused, so that no run of it would start.
    """
    if client.get(f"/api/v2/dags/{DAG}").raise_for_status().json()["is_paused"]:
        raise UserError(f"{DAG} is paused in Airflow; resume it there, or train without Airflow: make ml-train")
    under_way = client.get(RUNS, params={"state": ["queued", "running"], "limit": 1}).raise_for_status().json()
    if under_way["dag_runs"]:
        return under_way["dag_runs"][0]["dag_run_id"]
    answer = client.post(RUNS, json={"logical_date": datetime.now(UTC).isoformat()})
    return answer.raise_for_status().json()["dag_run_id"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse.start_training", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=AIRFLOW_URL, help="Airflow (default: %(default)s)")
    arguments = parser.parse_args()
    with one_line_errors():
        try:
            print(start_training(connect(arguments.url, load_settings(AirflowSettings))))
        except httpx.HTTPError as error:
            raise UserError(f"Airflow at {arguments.url}: {error}; docker compose logs airflow-api-server") from error


if __name__ == "__main__":
    main()

"""The two halves of power_drill.sh, which kills this process between them.

python3 phase4-ml/bench/power_drill.py load STATE_DIR FILE: an API under load, with the answered ids in a file
python3 phase4-ml/bench/power_drill.py count STATE_DIR FILE SETTING: how many of them the log has
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import httpx2
import orjson
import typer
from audit.spool import Spool

PORT = 8765
CLIENTS = 8
# About so many answers before the kill: the log has rotated by then.
ENOUGH = 8_000
PAYMENT = {"transaction_id": "t1", "user_id": "U1234", "amount": 500, "merchant_id": "M001"}

app = typer.Typer()


@app.command()
def load(state_dir: Path, answered: Path) -> None:
    """Run an API for which no other service answers, and its clients, until the container is killed."""
    nowhere = {"POSTGRES_HOST": "localhost", "POSTGRES_PORT": "1", "REDIS_HOST": "localhost", "REDIS_PORT": "1"}
    settings = {"STATE_DIR": str(state_dir), "API_PORT": str(PORT), "MLFLOW_TRACKING_URI": "http://localhost:1"}
    subprocess.Popen([sys.executable, "-m", "serving"], env=os.environ | settings | nowhere, stderr=subprocess.DEVNULL)
    url = f"http://localhost:{PORT}"
    while not _answers(url):
        time.sleep(0.2)
    counted = 0
    # Each line is one write, so the kill tears none but the last.
    descriptor = os.open(answered, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def pay() -> None:
        nonlocal counted
        with httpx2.Client(base_url=url, timeout=30) as client:
            while True:
                answer = client.post("/predict", json=PAYMENT)
                os.write(descriptor, f"{answer.raise_for_status().json()['prediction_id']}\n".encode())
                counted += 1
                if counted == ENOUGH:
                    answered.with_name("enough").touch()

    clients = [threading.Thread(target=pay) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


@app.command()
def count(
    state_dir: Path, answered: Path, fsync: Annotated[str, typer.Argument(help="AUDIT_FSYNC as it was.")]
) -> None:
    """Compare what was answered with what the next process finds."""
    ids = set(answered.read_text().split())
    spool = Spool(state_dir / "predictions")
    spool.adopt()
    found = {orjson.loads(line)["prediction_id"] for lines in spool.unstored() for line in lines}
    quarantined = sum(file.stat().st_size for file in (state_dir / "quarantine").glob("*"))
    missing = len(ids - found)
    print(json.dumps({"AUDIT_FSYNC": fsync, "answered": len(ids), "missing": missing, "quarantine_bytes": quarantined}))
    if fsync == "on" and missing:
        sys.exit("error: answered predictions are missing")


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health").status_code == 200
    except httpx2.HTTPError:
        return False


if __name__ == "__main__":
    app()

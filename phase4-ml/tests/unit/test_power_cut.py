"""With AUDIT_FSYNC=on, no answer is without its record after kill -9 and the loss of all that was never synced.

The disk is simulated; power_cut.py says what that covers.
"""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import orjson
import pytest
from api_process import PAYMENT, own_process
from audit.spool import Spool
from power_cut import Survivors

NOWHERE = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}
BATCH = 10


def pay(url: str, enough: threading.Event, answered: set[str]) -> None:
    """Single payments and batches in turn, until the API is killed."""
    with httpx2.Client(base_url=url, timeout=10) as client:
        for number in itertools.count():
            try:
                if number % 5 == 4:
                    answer = client.post("/predict/batch", json={"transactions": [PAYMENT] * BATCH})
                    found = answer.raise_for_status().json()["predictions"]
                else:
                    answer = client.post("/predict", json=PAYMENT)
                    found = [answer.raise_for_status().json()]
            except httpx2.TransportError:
                return
            answered.update(each["prediction_id"] for each in found)
            if len(answered) > 300:
                enough.set()


@pytest.mark.parametrize("fsync", ["on", "off"])
def test_what_was_answered_survives_a_power_cut(tmp_path: Path, fsync: str) -> None:
    """B5. Without AUDIT_FSYNC nothing is synced, which shows that this test can fail."""
    answered: set[str] = set()
    enough = threading.Event()
    program = ("power_cut", str(tmp_path / "disk"))
    with (
        ThreadPoolExecutor() as clients,
        own_process(tmp_path, program=program, audit_fsync=fsync, redis_port=1, postgres_port=1, **NOWHERE) as api,
    ):
        for _ in range(4):
            clients.submit(pay, str(api.client.base_url), enough, answered)
        assert enough.wait(60)
        api.process.kill()
    found = tmp_path / "found" / "predictions"
    Survivors(tmp_path / "disk").restore(tmp_path / "predictions", found)
    survived = recovered(found)
    assert len(answered) > 300
    assert answered <= survived if fsync == "on" else not survived


def recovered(folder: Path) -> set[str]:
    """The predictions that the next process stores."""
    spool = Spool(folder)
    spool.adopt()
    return {orjson.loads(line)["prediction_id"] for lines in spool.unstored() for line in lines}

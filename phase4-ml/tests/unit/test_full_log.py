"""When predictions can't be recorded: what is answered then, and how many syncs AUDIT_FSYNC=on needs."""

import asyncio
import os
from pathlib import Path

import httpx2
import pytest
from api_process import PAYMENT, metric_of, own_api, wait_until
from audit.prediction_log import PredictionLog
from audit.spool import NotRecordedError
from predictions import line
from serving.settings import Settings

NOWHERE = {"redis_host": "localhost", "postgres_host": "localhost", "mlflow_tracking_uri": "http://localhost:1"}


@pytest.mark.parametrize("fsync", ["off", "on"])
def test_a_full_log_is_visible_in_every_answer_or_in_a_count(tmp_path: Path, fsync: str) -> None:
    """B5: an answer without a record is counted; with AUDIT_FSYNC=on there is none."""
    in_the_way = tmp_path / "quarantine" / "large"
    in_the_way.parent.mkdir()
    in_the_way.write_bytes(bytes(17 << 20))
    batch = {"transactions": [PAYMENT] * 3}
    settings = NOWHERE | {"redis_port": 1, "postgres_port": 1, "audit_max_mb": 16, "audit_fsync": fsync}
    with own_api(tmp_path, **settings) as api:
        answers = [api.post("/predict", json=PAYMENT), api.post("/predict/batch", json=batch)]
        unrecorded = metric_of(api, "fraud_predictions_unrecorded_total")
        if fsync == "off":
            assert [answer.status_code for answer in answers] == [200, 200] and unrecorded == 4
        else:
            assert [answer.status_code for answer in answers] == [503, 503] and unrecorded == 0
            assert "AUDIT_MAX_MB" in answers[0].json()["detail"] and answers[0].headers["retry-after"]
            assert metric_of(api, "fraud_predictions_total") == 0
        assert any("AUDIT_MAX_MB" in trouble for trouble in api.get("/ready").json()["degraded"])
        assert metric_of(api, "fraud_audit_log_room_bytes") == 0
        in_the_way.unlink()
        wait_until(lambda: recorded(api), "there is room", 10)


def recorded(api: httpx2.Client) -> bool:
    """Whether one more payment is answered with a record."""
    answer = api.post("/predict", json=PAYMENT)
    return answer.status_code == 200 and "AUDIT_MAX_MB" not in str(api.get("/ready").json()["degraded"])


def synced_log(folder: Path) -> PredictionLog:
    """A log that nothing moves to Postgres."""
    return PredictionLog(Settings(state_dir=folder, audit_fsync=True))


def test_one_sync_is_for_all_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    fdatasync = os.fdatasync

    def counted(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    log = synced_log(tmp_path)

    async def record_at_once() -> None:
        await asyncio.gather(*(log.record(line(f"t{number}")) for number in range(100)))

    asyncio.run(record_at_once())
    assert 1 <= syncs <= 2


def test_after_a_sync_that_failed_nothing_relies_on_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = synced_log(tmp_path)
    files = tmp_path / "predictions"
    (first,) = files.iterdir()

    def broken(_: int) -> None:
        raise OSError("Input/output error")

    async def record() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", broken)
            results = await asyncio.gather(log.record(line("t1")), log.record(line("t2")), return_exceptions=True)
        assert all(isinstance(result, NotRecordedError) for result in results)
        assert log.trouble and "Input/output error" in log.trouble
        await log.record(line("t3"))
        assert log.trouble is None

    asyncio.run(record())
    (second,) = set(files.iterdir()) - {first}
    assert b"t3" in second.read_bytes() and b"t3" not in first.read_bytes()

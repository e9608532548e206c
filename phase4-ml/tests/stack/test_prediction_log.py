"""From the spool to Postgres: what a crash leaves behind is stored once, and an invalid line blocks no others."""

import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from audit import spool
from audit.prediction_log import PredictionLog
from fraud_common.postgres import connect
from predictions import line
from serving.settings import Settings
from serving_stack import POSTGRES_HOST, select, wait_until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, postgres_host=POSTGRES_HOST)


@pytest.fixture
def run() -> str:
    return f"log-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def log(settings: Settings) -> Iterator[PredictionLog]:
    log = PredictionLog(settings)
    yield log
    log.close()


def stored(run: str) -> int:
    rows = select("select count(*) from predictions where transaction_id = %s", run)
    return rows[0][0] if rows else -1


def files(settings: Settings) -> list[Path]:
    return list((settings.state_dir / "predictions").iterdir())


def test_appended_is_stored_and_a_stop_leaves_nothing_to_do(settings: Settings, log: PredictionLog, run: str) -> None:
    log.start()
    log.append(line(run))
    log.append(line(run) + line(run))
    wait_until(lambda: stored(run) == 3, "stored", 20)


def test_files_of_the_dead_are_stored_once_without_their_torn_end(
    settings: Settings, log: PredictionLog, run: str
) -> None:
    twice = line(run)
    left = settings.state_dir / "predictions" / f"{uuid.uuid4()}.jsonl"
    left.write_bytes(line(run) + twice + twice + line(run)[:100])
    log.start()
    wait_until(lambda: stored(run) == 2 and not left.exists(), "the file is taken over", 20)


def test_the_living_keep_their_files(settings: Settings, log: PredictionLog, run: str) -> None:
    other = PredictionLog(settings)
    other.append(line(run))
    log.start()
    log.append(line(f"{run}-own"))
    wait_until(lambda: stored(f"{run}-own") == 1, "the own file is stored", 20)
    assert stored(run) == 0 and len(files(settings)) == 2
    other.start()
    wait_until(lambda: stored(run) == 1, "the other's file is stored by the other", 20)
    other.close()


def test_tiers_medium_and_high_wait_for_reasons_once(log: PredictionLog, run: str) -> None:
    """The explainer finds no model that these scores are of, so it says why there are none, and goes on."""
    twice = line(run, risk_tier="high")
    log.append(line(run) + line(run, risk_tier="medium") + twice + twice)
    log.start()
    wait_until(lambda: stored(run) == 3, "stored", 20)
    reasons = (
        "select risk_tier, reasons, unexplained is not null from predictions join prediction_reasons "
        "using (prediction_id) where transaction_id = %s order by risk_tier"
    )
    wait_until(lambda: select(reasons, run) == [("high", [], True), ("medium", [], True)], "explained", 30)


def test_every_minute_is_counted_once_by_what_charts_group_by(settings: Settings, log: PredictionLog, run: str) -> None:
    """Field case I9; also what is stored twice, by two processes, and while other lines are refused."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    first, second = (f"{minute + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}" for seconds in (1, 61))
    high = {"risk_tier": "high", "fraud_probability": 1.0, "model_version": run}
    twice = line(run, predicted_at=first, **high)
    log.append(twice + line(run, predicted_at=first, amount=2.5, **high))
    log.append(line(run, predicted_at=first, amount="much", **high))
    log.append(line(run, predicted_at=second, model_version=run, fraud_probability=0.07))
    long_ago = f"{minute - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    log.append(line(run, predicted_at=long_ago, model_version=run))
    other = PredictionLog(settings)
    other.append(twice + line(run, predicted_at=first, amount=10, **high))
    log.start()
    other.start()
    wait_until(lambda: stored(run) == 5, "stored", 20)
    other.close()
    counted = (
        "select minute, risk_tier, score_band, payments, amount, fraud_probability from prediction_minutes "
        "where model_version = %s order by 1"
    )
    assert select(counted, run) == [
        (minute, "high", 0.95, 3, 14.0, 3.0),
        (minute + timedelta(minutes=1), "low", 0.05, 1, 1.5, 0.07),
    ]


def test_old_minutes_are_deleted(settings: Settings, log: PredictionLog, run: str) -> None:
    connection = connect(settings, "tests")
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into prediction_minutes "
            "values (now() - interval '3 days', 'low', 'stream', %s, false, 0, 1, 1, 0, 0)",
            (run,),
        )
    connection.close()
    log.append(line(run))
    log.start()
    wait_until(lambda: stored(run) == 1, "stored", 20)
    assert select("select count(*) from prediction_minutes where model_version = %s", run) == [(0,)]


def test_an_invalid_line_does_not_block_the_others(log: PredictionLog, run: str) -> None:
    log.append(line(run) + b"garbage\n" + line(run, amount="much") + line(run, user_id=None) + line(run))
    log.start()
    wait_until(lambda: stored(run) == 2, "the good ones are stored", 20)


def test_damage_costs_nothing_that_is_whole(settings: Settings, log: PredictionLog, run: str) -> None:
    """B5: zeros as after a power cut, torn lines, bytes without an end, and lines that Postgres never takes."""
    # An index takes no text that is so long and can't be compressed.
    too_long = random.Random(1).randbytes(20_000).hex()
    refused = [line("a\0b"), line(too_long), line(run, amount="much"), line(run, predicted_at="2024-02-30T00:00:00Z")]
    damaged = [
        bytes(163_840),
        line(run)[:100],
        line(run)[:100] + b"\0" + line(run)[101:],
        b"x" * 163_840 + b"\n",
        b"\xff\xfe",
    ]
    pieces = [piece for each in (*damaged, *refused) for piece in (line(run), each)]
    left = settings.state_dir / "predictions" / f"{uuid.uuid4()}.jsonl"
    left.write_bytes(b"".join([*pieces, line(run), line(run)[:50]]))
    log.start()
    wait_until(lambda: stored(run) == len(damaged) + len(refused) + 1 and not left.exists(), "the whole lines", 20)
    kept = [
        orjson.loads(each)
        for file in (settings.state_dir / "quarantine").iterdir()
        for each in file.read_text().splitlines()
    ]
    reasons = [each["reason"] for each in kept]
    assert reasons.count("refused") == len(refused) and reasons.count("damaged") >= len(damaged) + 1
    log.append(line(run))
    wait_until(lambda: stored(run) == len(damaged) + len(refused) + 2, "it goes on", 20)


def test_large_files_are_closed_and_deleted(
    settings: Settings, log: PredictionLog, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MAX_FILE_BYTES", 2_000)
    for _ in range(50):
        log.append(line(run))
    assert len(files(settings)) > 5
    log.start()
    wait_until(lambda: stored(run) == 50 and len(files(settings)) == 1, "stored and deleted", 20)


def test_a_killed_process_loses_nothing_that_was_appended(settings: Settings, log: PredictionLog, run: str) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from audit.prediction_log import PredictionLog\n"
        "from serving.settings import Settings\n"
        "state = pathlib.Path(sys.argv[1])\n"
        "log = PredictionLog(Settings(state_dir=state, postgres_host='localhost', postgres_port=1))\n"
        "for line in sys.stdin.buffer: log.append(line)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    lines = b"".join(line(run) for _ in range(1000))
    subprocess.run([sys.executable, "-c", program, str(settings.state_dir)], input=lines, check=False)
    assert stored(run) == 0
    log.start()
    wait_until(lambda: stored(run) == 1000, "stored by the next process", 20)

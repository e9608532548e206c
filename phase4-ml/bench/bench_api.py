"""How fast the API is, compared with a naive design, with real Redis and Postgres: a Markdown table on standard output.

python3 phase4-ml/bench/bench_api.py

Runs in the test image, with the load generator (vegeta) on the same machine. The rate is constant: a request is sent
when it is due, even if earlier ones have no answer yet, and its latency counts from the moment when it was due.
"""

import base64
import csv
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx2
import numpy as np
import redis
import typer
from example_model import ExampleModel, example_model, publish
from feature_store import writer
from feature_store.layout import CLOCK_KEY, COMPLETE_KEY, PaymentEvent
from features import MERCHANT_KEY, SNAPSHOT_SECONDS, MerchantFeatures, milliseconds
from fraud_common.models import MODEL_NAME, PRODUCTION_ALIAS
from fraud_common.postgres import connect
from fraud_common.settings import load_settings
from serving.settings import Settings
from tqdm import tqdm

PORT = 8765
USERS, MERCHANTS, PAYMENTS = 10_000, 1_000, 60
# The size of forest that training makes by default.
TREES, DEPTH = 100, 14
CONNECTIONS = 16
NOW = datetime(2024, 11, 29, 14, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a load; times in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p95: float
    p99: float
    slowest: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return (self.requests - self.errors) / self.seconds


def fill_redis(settings: Settings) -> None:
    """What the stream keeps of all users, a month of two payments a day each, and the snapshots of all merchants."""
    client = redis.Redis(settings.redis_host, settings.redis_port, password=settings.redis_password or None)
    draw = random.Random(1)
    total = USERS * PAYMENTS
    with tqdm(total=total, desc="filling Redis", unit="payments", file=sys.stderr, disable=None) as progress:
        for start in range(0, total, 1000):
            payments = [
                PaymentEvent(
                    transaction_id=f"bench-{number}",
                    user_id=f"bench-{number % USERS}",
                    merchant_id=f"bench-{draw.randrange(MERCHANTS)}",
                    event_time=milliseconds(NOW - timedelta(days=30 * draw.random())),
                    cents=draw.randint(100, 50_000),
                    country="DE",
                    device_id="d1",
                    is_international=False,
                )
                for number in range(start, min(start + 1000, total))
            ]
            writer.apply(client, writer.Batch(payments), max_payments_per_user=1000)
            progress.update(len(payments))
    client.set(CLOCK_KEY, milliseconds(NOW))
    # Current for as long as the bench lasts.
    client.set(COMPLETE_KEY, struct.pack(">10q", *[round(1000 * (time.time() + 86_400))] * 10))
    with client.pipeline(transaction=False) as pipeline:
        for number in range(MERCHANTS):
            merchant = MerchantFeatures("grocery", draw.randint(0, 2), as_of=NOW - timedelta(days=1))
            pipeline.set(MERCHANT_KEY.format(f"bench-{number}"), merchant.to_json(), ex=SNAPSHOT_SECONDS)
        pipeline.execute()


def write_targets(file: Path, run: str, count: int) -> None:
    """As many different payments, in the load generator's format."""
    draw = random.Random(run)
    with file.open("w") as lines:
        for number in range(count):
            payment = {
                "transaction_id": f"{run}-{number}",
                "user_id": f"bench-{draw.randrange(USERS)}",
                "amount": round(draw.lognormvariate(3.5, 1), 2),
                "merchant_id": f"bench-{draw.randrange(MERCHANTS)}",
                "is_international": draw.random() < 0.1,
                "device_type": draw.choice(("mobile", "web", "atm", "pos")),
                "event_time": (NOW + timedelta(seconds=number)).isoformat(),
            }
            target = {
                "method": "POST",
                "url": f"http://127.0.0.1:{PORT}/predict",
                "header": {"Content-Type": ["application/json"]},
                "body": base64.b64encode(json.dumps(payment).encode()).decode(),
            }
            lines.write(json.dumps(target) + "\n")


def attack(run: str, seconds: float, rate: int | None) -> Load:
    """Send so many requests a second or, without a rate, CONNECTIONS at a time as fast as possible."""
    with tempfile.TemporaryDirectory() as folder:
        targets, results, table = (Path(folder, name) for name in ("targets", "results", "results.csv"))
        write_targets(targets, run, int((rate or 2000) * seconds))
        command = ["vegeta", "attack", "-format=json", f"-targets={targets}", f"-output={results}"]
        command += [f"-duration={seconds}s", "-timeout=10s"]
        if rate:
            command += [f"-rate={rate}", "-max-workers=2000"]
        else:
            command += ["-rate=0", f"-workers={CONNECTIONS}", f"-max-workers={CONNECTIONS}"]
        process = subprocess.Popen(command)
        with tqdm(total=round(seconds), desc=run, unit="s", file=sys.stderr, disable=None) as progress:
            while process.poll() is None:
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    progress.update()
        if process.returncode:
            sys.exit(f"error: vegeta ended with {process.returncode}")
        subprocess.run(["vegeta", "encode", "-to=csv", f"-output={table}", str(results)], check=True)
        return measured(table, rate)


def measured(table: Path, rate: int | None) -> Load:
    """The figures of the load generator's results: time stamp and latency in ns, status, and the request's number."""
    with table.open() as lines:
        rows = [(int(row[0]), int(row[1]), int(row[2]), int(row[8])) for row in csv.reader(lines)]
    sent, status, latency, number = np.array(rows, dtype=np.int64).T
    if rate:
        # A request that was sent late has already waited: measured against the schedule of the most punctual one.
        due = number * (1_000_000_000 // rate)
        latency = latency + (sent - due - (sent - due).min())
    p50, p95, p99, slowest = np.percentile(latency / 1e6, [50, 95, 99, 100])
    seconds = ((sent + latency).max() - sent.min()) / 1e9
    return Load(len(rows), seconds, int((status != 200).sum()), p50, p95, p99, slowest)


@contextmanager
def serving(command: list[str], **environment: str) -> Iterator[None]:
    """A server in a process of its own, from its first answer to its end."""
    with tempfile.TemporaryDirectory() as state:
        variables = os.environ | {"STATE_DIR": state, "API_PORT": str(PORT), "API_KEY": ""} | environment
        process = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
        try:
            wait_for_answer(process)
            yield
        finally:
            process.terminate()
            process.wait(60)


def wait_for_answer(process: subprocess.Popen[bytes]) -> None:
    """Wait until /ready answers and, for the API, until it has asked the registry for its model."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            answer = httpx2.get(f"http://127.0.0.1:{PORT}/ready", timeout=2).json()
        except httpx2.HTTPError:
            answer = {}
        if answer and "the registry was not asked yet" not in answer["degraded"]:
            return
        time.sleep(0.2)
    sys.exit("error: the server to be measured did not start")


def has_production(settings: Settings) -> bool:
    """Whether the registry has a model that the API would take."""
    alias = "/api/2.0/mlflow/registered-models/alias"
    answer = httpx2.get(
        f"{settings.mlflow_tracking_uri}{alias}", params={"name": MODEL_NAME, "alias": PRODUCTION_ALIAS}, timeout=30
    )
    return answer.status_code == 200


def our_api(workers: int) -> list[str]:
    """The command of the API, as its image runs it."""
    os.environ["API_WORKERS"] = str(workers)
    return [sys.executable, "-m", "serving"]


def naive_api(model: ExampleModel, folder: Path) -> list[str]:
    """The command of the naive design, with the sklearn forest in a file."""
    import joblib

    joblib.dump(model.forest, folder / "forest.joblib")
    os.environ["NAIVE_MODEL"] = str(folder / "forest.joblib")
    server = [sys.executable, "-m", "uvicorn", "naive_api:app", "--port", str(PORT), "--workers", "2"]
    return [*server, "--no-access-log", "--log-level", "warning"]


def server_side(settings: Settings, run: str, count: int) -> tuple[float, float]:
    """Median and p99 of latency_ms of a run's predictions, once all are in Postgres."""
    connection = connect(settings, "bench")
    end = time.monotonic() + 60
    with connection, connection.cursor() as cursor:
        while True:
            cursor.execute(
                "select count(*), percentile_cont(array[0.5, 0.99]) within group (order by latency_ms),"
                " count(*) filter (where feature_source = 'stream') from predictions where transaction_id like %s",
                (f"{run}-%",),
            )
            found = cursor.fetchone()
            if found and found[0] == count:
                print(f"{found[2]} of {count} with the features of the stream", file=sys.stderr)
                return found[1][0], found[1][1]
            if time.monotonic() > end:
                sys.exit(f"error: {count} predictions were answered, Postgres has {found and found[0]}")
            time.sleep(0.5)


def row(what: str, load: Load) -> str:
    """A line of the table."""
    figures = f"{load.p50:.2f} / {load.p95:.2f} / {load.p99:.2f} ms, slowest {load.slowest:.0f} ms"
    return f"| {what} | {load.rate:.0f}/s | {figures} | {load.errors} of {load.requests} |"


def main(
    rate: Annotated[int, typer.Option(min=1, help="Requests a second.")] = 500,
    seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 60,
    synced_rate: Annotated[int, typer.Option(min=1, help="Requests a second with and without AUDIT_FSYNC.")] = 200,
    naive_rate: Annotated[int, typer.Option(min=1, help="Requests a second to the naive design.")] = 20,
    full_speed_seconds: Annotated[int, typer.Option(min=1, help="How long each measurement at full speed takes.")] = 15,
) -> None:
    """Measure, and print the table."""
    settings = load_settings(Settings)
    fill_redis(settings)
    forest = example_model(TREES, DEPTH)
    if not has_production(settings):
        publish(settings.mlflow_tracking_uri, forest.onnx, forest.described)
    stamp = f"{time.time():.0f}"
    with serving(our_api(2)):
        attack(f"warm-{stamp}", 3, rate)
        ours = attack(f"rate-{stamp}", seconds, rate)
        full_two = attack(f"full2-{stamp}", full_speed_seconds, None)
    synced = {}
    for fsync in ("off", "on"):
        with serving(our_api(2), AUDIT_FSYNC=fsync):
            attack(f"warm-{fsync}-{stamp}", 3, synced_rate)
            synced[fsync] = attack(f"fsync-{fsync}-{stamp}", full_speed_seconds, synced_rate)
    inside_p50, inside_p99 = server_side(settings, f"rate-{stamp}", ours.requests - ours.errors)
    with serving(our_api(1)):
        full_one = attack(f"full1-{stamp}", full_speed_seconds, None)
    with tempfile.TemporaryDirectory() as folder, serving(naive_api(forest, Path(folder))):
        attack(f"warm-naive-{stamp}", 3, naive_rate)
        naive = attack(f"naive-{stamp}", full_speed_seconds, naive_rate)
        naive_full = attack(f"naive-full-{stamp}", full_speed_seconds, None)
    print("| scoring one payment | answers | latency p50 / p95 / p99 | errors |")
    print("|---|---|---|---|")
    print(row(f"the API, two workers, {PAYMENTS} payments a user in Redis, {rate}/s for {seconds} s", ours))
    print(f"| the same, inside the server (`latency_ms`) | | {inside_p50:.2f} / – / {inside_p99:.2f} ms | |")
    print(row(f"the API at full speed, {CONNECTIONS} connections, two workers", full_two))
    print(row(f"the API at full speed, {CONNECTIONS} connections, one worker", full_one))
    for fsync, load in synced.items():
        print(row(f"the API, two workers, {synced_rate}/s, AUDIT_FSYNC={fsync}", load))
    print(row(f"naive: sklearn, {TREES} trees, a new Postgres connection each, {naive_rate}/s", naive))
    print(row(f"naive at full speed, {CONNECTIONS} connections, two workers", naive_full))


if __name__ == "__main__":
    typer.run(main)

"""For tests with the real API, Redis, Postgres and MLflow: services to stop, a load of payments, what was stored."""

import base64
import csv
import json
import os
import signal
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import httpx2
import psycopg2
import redis
from api_process import PAYMENT, metric_of, wait_until
from docker.models.containers import Container
from feature_store.layout import COMPLETE_KEY
from features import MERCHANT_KEY, SNAPSHOT_SECONDS, USER_KEY, MerchantFeatures, UserFeatures

API_URL = os.environ.get("API_URL", "http://fraud-api:8000")
# The stack's own key, which has no limit; a stack without keys takes any.
API_HEADERS = {"X-API-Key": os.environ.get("STACK_API_KEY", "")}
MLFLOW_URL = os.environ.get("MLFLOW_TRACKING_URI", "http://mlflow:5000")
REDIS_HOST = os.environ.get("REDIS_HOST", "redis")
POSTGRES_HOST = os.environ.get("POSTGRES_HOST", "postgres")
AS_OF = datetime(2024, 11, 29, 14, tzinfo=UTC)
KNOWN_USERS, KNOWN_MERCHANTS = 200, 50


def service(name: str) -> Container:
    """The container of a service of the stack that the tests run in."""
    project = os.environ["COMPOSE_PROJECT_NAME"]
    # An image that Compose has built has the first two as well, and with it any container that is run from it.
    labels = [f"project={project}", f"service={name}", "oneoff=False"]
    labels = [f"com.docker.compose.{label}" for label in labels]
    (container,) = docker.from_env().containers.list(all=True, filters={"label": labels})
    return container


def postgres() -> psycopg2.extensions.connection:
    """A connection to the database of predictions."""
    connection = psycopg2.connect(
        host=POSTGRES_HOST,
        dbname="fraud",
        user="fraud",
        password=os.environ["FRAUD_DB_PASSWORD"],
        connect_timeout=5,
    )
    connection.autocommit = True
    return connection


def select(query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of Postgres; none while it does not answer."""
    try:
        connection = postgres()
    except psycopg2.OperationalError:
        return []
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows = cursor.fetchall()
    connection.close()
    return rows


def redis_client() -> redis.Redis:
    """A client of the feature store."""
    return redis.Redis(REDIS_HOST, 6379, password=os.environ.get("REDIS_PASSWORD") or None)


def known_user() -> UserFeatures:
    """A cardholder with a history."""
    return UserFeatures(
        transactions_1d=2,
        amount_sum_1d=51.5,
        amount_mean_1d=25.75,
        amount_max_1d=30,
        transactions_30d=50,
        amount_sum_30d=2000.0,
        amount_mean_30d=40.0,
        amount_stddev_30d=22.5,
        amount_max_30d=400,
        distinct_merchants_30d=12,
        last_event_time=AS_OF,
        as_of=AS_OF,
    )


def fill_redis() -> None:
    """Snapshots of the users and merchants that the load pays with."""
    with redis_client().pipeline(transaction=False) as pipeline:
        for number in range(KNOWN_USERS):
            pipeline.set(USER_KEY.format(f"known-{number}"), known_user().to_json(), ex=SNAPSHOT_SECONDS)
        merchant = MerchantFeatures(
            "gaming",
            2,
            merchant_transactions_1d=100,
            merchant_fraud_rate_1d=0.01,
            merchant_transactions_7d=700,
            merchant_fraud_rate_7d=0.012,
            merchant_transactions_30d=3000,
            merchant_fraud_rate_30d=0.011,
            as_of=AS_OF,
        ).to_json()
        for number in range(KNOWN_MERCHANTS):
            pipeline.set(MERCHANT_KEY.format(f"known-{number}"), merchant, ex=SNAPSHOT_SECONDS)
        pipeline.execute()


def stream_is_complete(until: float) -> None:
    """What a stream would record that has read all partitions up to this time (seconds since 1970)."""
    redis_client().set(COMPLETE_KEY, struct.pack(">10q", *[round(until * 1000)] * 10))


def ready() -> dict[str, Any]:
    """The state of one worker; empty if the API does not answer."""
    try:
        return httpx2.get(f"{API_URL}/ready", headers=API_HEADERS, timeout=5).json()
    except httpx2.HTTPError:
        return {}


def all_workers(condition: Callable[[dict[str, Any]], bool]) -> bool:
    """Whether the condition is true of twenty answers in a row, on new connections: most likely of all workers."""
    return all(condition(ready()) for _ in range(20))


def metric(name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    with httpx2.Client(base_url=API_URL, headers=API_HEADERS, timeout=10) as client:
        return metric_of(client, name, **labels)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request of the load; status 0 means none."""

    sent: float
    status: int
    latency_ms: float
    body: dict[str, Any]
    error: str


class Load:
    """Payments at a constant rate, however long the answers take, from a process of its own."""

    def __init__(self, folder: Path, rate: int, url: str) -> None:
        self.run = f"load-{uuid.uuid4().hex[:8]}"
        self._results = folder / "results"
        targets = folder / "targets"
        headers = {name: [value] for name, value in API_HEADERS.items()}
        with targets.open("w") as lines:
            for number in range(rate * 240):
                body = PAYMENT | {
                    "transaction_id": f"{self.run}-{number}",
                    "user_id": f"known-{number % KNOWN_USERS}",
                    "merchant_id": f"known-{number % KNOWN_MERCHANTS}",
                    "event_time": "2024-11-29T14:30:00Z",
                }
                target = {
                    "method": "POST",
                    "url": f"{url}/predict",
                    "header": {"Content-Type": ["application/json"]} | headers,
                    "body": base64.b64encode(json.dumps(body).encode()).decode(),
                }
                lines.write(json.dumps(target) + "\n")
        command = ["vegeta", "attack", "-format=json", f"-targets={targets}", f"-output={self._results}"]
        self._process = subprocess.Popen(
            [*command, f"-rate={rate}", "-duration=0", "-max-workers=2000", "-timeout=10s", "-dns-ttl=-1"]
        )
        self.answers: list[Answer] = []

    def more(self, count: int) -> None:
        """Wait until the API has answered so many more."""
        start = metric("fraud_predictions_total")
        wait_until(lambda: metric("fraud_predictions_total") >= start + count, f"{count} more answers")

    def stop(self) -> None:
        """End it, and read all answers."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        encoded = subprocess.run(["vegeta", "encode", "-to=csv", str(self._results)], check=True, capture_output=True)
        csv.field_size_limit(10_000_000)
        for row in csv.reader(encoded.stdout.decode().splitlines()):
            body = json.loads(base64.b64decode(row[6])) if row[1] == "200" else {}
            self.answers.append(Answer(int(row[0]) / 1e9, int(row[1]), int(row[2]) / 1e6, body, row[5]))
        self.answers.sort(key=lambda answer: answer.sent)

    def failed(self) -> list[Answer]:
        """Those that are not 200."""
        return [answer for answer in self.answers if answer.status != 200]

    def share(self, source: str, begin: float, end: float) -> float:
        """How many of the answers to what was sent between two moments have this feature_source."""
        sources = [answer.body.get("feature_source") for answer in self.answers if begin <= answer.sent < end]
        assert sources
        return sources.count(source) / len(sources)

    def answered(self) -> set[str]:
        """The prediction ids of all answers."""
        return {answer.body["prediction_id"] for answer in self.answers if answer.status == 200}

    def stored(self) -> list[str]:
        """The prediction ids of this load that Postgres has."""
        rows = select("select prediction_id::text from predictions where transaction_id like %s", f"{self.run}-%")
        return [prediction_id for (prediction_id,) in rows]

    def wait_until_stored(self) -> None:
        """Every answered prediction is in the table."""
        wait_until(lambda: self.answered() <= set(self.stored()), "all answered predictions in Postgres")


@contextmanager
def loaded(rate: int = 200) -> Iterator[Load]:
    """Load that ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        load = Load(Path(folder), rate, API_URL)
        try:
            load.more(rate)
            yield load
        finally:
            load.stop()


def kill_a_worker(container: Container) -> int:
    """kill -9 of one worker process of the API, once there are two; returns its process id.

    A worker that dies while uvicorn waits for its answer to a ping is replaced only when that wait is over, after 30 s.
    """
    code = (
        "import os, signal, pathlib\n"
        "commands = pathlib.Path('/proc').glob('[0-9]*/cmdline')\n"
        "workers = {int(c.parent.name) for c in commands if b'spawn_main' in c.read_bytes()} - {os.getpid()}\n"
        "assert len(workers) >= 2, workers\n"
        "victim = max(workers); os.kill(victim, signal.SIGKILL); print(victim)"
    )
    result = wait_until(
        lambda: answer if (answer := container.exec_run(["python3", "-c", code])).exit_code == 0 else None,
        "two workers, and one killed",
        60,
    )
    return int(result.output)

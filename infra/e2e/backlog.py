"""A backlog of payments and labels, and what the consumers do with it: speed, and memory against their limits.

`make bench PARTS=backlog` runs it with 2 million of each on a stack of its own; the end-to-end checks use a shorter
one. Payments spread over 30 days, so all of them are in some window of their users.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from confluent_kafka import Producer
from docker.models.containers import Container
from example_model import example_model, publish
from fraud_common.topics import LABELS, TRANSACTIONS
from kafka_tools import KAFKA, encoder_of
from kills import container_of
from lags import behind, scorer_lag, stream_lag
from serving_stack import MLFLOW_URL
from tqdm import tqdm

SECONDS_BETWEEN_SAMPLES = 0.5
_MIB = 1024 * 1024

# Each consumer with a backlog, and how many messages it still has to take.
CONSUMERS: dict[str, Callable[[], int]] = {
    "feature-stream": stream_lag,
    "scorer": scorer_lag,
    "model-quality": lambda: behind("model-quality", LABELS),
    "spark-streaming": lambda: sum(behind("bronze-writer", topic) for topic in (TRANSACTIONS, LABELS)),
}


@dataclass
class Watched:
    """A service while it works: its memory limit, the most that it had, and how often it was restarted."""

    service: str
    limit_mib: int
    restarts: int
    peak_mib: int = 0

    @property
    def was_killed(self) -> bool:
        """Whether Docker has restarted it since."""
        return int(container_of(self.service).attrs["RestartCount"]) > self.restarts


def records(count: int, users: int, prefix: str, newest: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
    """Payments over the 30 days up to `newest`, in order of time, with their users."""
    draw = random.Random(1)
    for number in range(count):
        user = f"{prefix}-{draw.randrange(users)}"
        yield (
            user,
            {
                "transaction_id": f"{prefix}-{number:09d}",
                "user_id": user,
                "amount": Decimal(draw.randint(100, 50_000)) / 100,
                "currency": "EUR",
                "merchant_id": f"{prefix} shop {draw.randrange(2_000)}",
                "merchant_name": "a shop",
                "country": draw.choice(("DE", "FR", "US")),
                "city": "Berlin",
                "device_id": f"{user}-{draw.randrange(3)}",
                "device_type": "mobile",
                "event_time": newest - timedelta(days=30) * (1 - number / count),
                "is_international": False,
                "metadata": {},
            },
        )


def send(count: int, users: int, prefix: str, newest: datetime) -> None:
    """Send so many payments and a label for each, and wait until the broker has them."""
    producer = Producer(
        {"bootstrap.servers": KAFKA, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}
    )
    payment_encoder, label_encoder = encoder_of(TRANSACTIONS), encoder_of(LABELS)
    for user, payment in tqdm(records(count, users, prefix, newest), total=count, desc="sending", disable=None):
        label = {
            "transaction_id": payment["transaction_id"],
            "user_id": user,
            "is_fraud": False,
            "fraud_type": None,
            "event_time": payment["event_time"],
            "reported_at": newest,
        }
        for topic, value in ((TRANSACTIONS, payment_encoder.encode(payment)), (LABELS, label_encoder.encode(label))):
            producer.produce(topic, value, user.encode())
        producer.poll(0) if len(producer) < 50_000 else producer.flush(60)
    if producer.flush(120):
        raise RuntimeError("the broker did not take the backlog")


def watch(service: str) -> Watched:
    """A service as it is now, which must be running."""
    container = container_of(service)
    limit = container.attrs["HostConfig"]["Memory"]
    return Watched(service, limit // _MIB, container.attrs["RestartCount"])


def sample(watched: Watched, container: Container) -> None:
    """Add the anonymous memory that it has now: what the kernel can't reclaim, so what a container is killed for."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)["memory_stats"].get("stats", {})
    # Named by version 2 and by version 1 of control groups.
    watched.peak_mib = max(watched.peak_mib, stats.get("anon", stats.get("rss", 0)) // _MIB)


@contextmanager
def sampling(services: Mapping[str, Watched]) -> Iterator[None]:
    """Sample the services' memory meanwhile."""
    done = threading.Event()
    containers = {service: container_of(service) for service in services}

    def keep_sampling() -> None:
        while not done.wait(SECONDS_BETWEEN_SAMPLES):
            for service, watched in services.items():
                sample(watched, containers[service])

    thread = threading.Thread(target=keep_sampling, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def catch_up(watched: Watched, lag: Callable[[], int], seconds: float) -> float:
    """Messages a second, from the first that it has taken to the last.

    Raises:
        RuntimeError: it was killed, or was not done in time.
    """
    begin = left = lag()
    deadline = time.monotonic() + seconds
    started: float | None = None
    with sampling({watched.service: watched}), tqdm(total=begin, desc=watched.service, disable=None) as progress:
        while left > 0:
            time.sleep(0.2)  # the period of the poll; the conditions are the lag and the deadline
            now = lag()
            if started is None and now < begin:
                started, begin = time.monotonic(), now
            progress.update(left - now)
            left = now
            if watched.was_killed:
                raise RuntimeError(f"{watched.service} was killed at {watched.peak_mib} of {watched.limit_mib} MiB")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{watched.service} has {left:,} messages left after {seconds:.0f} s")
    return begin / max(time.monotonic() - (started or 0.0), 0.1)


def main(
    count: Annotated[int, typer.Option(min=1000, help="Payments, and as many labels.")] = 2_000_000,
    users: Annotated[int, typer.Option(min=1, help="Their users.")] = 40_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long one consumer may take.")] = 1_800,
) -> None:
    """Send a backlog, start the consumers one after the other, and print the table. Needs an empty stack."""
    forest = example_model(100, 12)
    publish(MLFLOW_URL, forest.onnx, forest.described)
    send(count, users, "backlog", datetime.now(UTC).replace(microsecond=0))
    print("| consumer | messages waiting | catching up | peak memory | limit | restarts |")
    print("|---|---|---|---|---|---|")
    for service, lag in CONSUMERS.items():
        container = container_of(service)
        container.start()
        watched = watch(service)
        waiting = lag()
        speed = catch_up(watched, lag, seconds)
        print(
            f"| {service} | {waiting:,} | {speed:,.0f}/s | {watched.peak_mib} MiB | {watched.limit_mib} MiB | 0 |",
            flush=True,
        )
        if service != "feature-stream":
            container.stop()


if __name__ == "__main__":
    typer.run(main)

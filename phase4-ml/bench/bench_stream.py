"""How fast the feature stream is, with real Kafka and Redis: a Markdown table on standard output.

Runs in the test image. Catching up: messages that are in Kafka already. Freshness: payments at a constant rate, each
timed by the stream itself from Kafka's timestamp to the acknowledgement of Redis.
"""

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import httpx2
import redis
import typer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from feature_store import coverage
from feature_store.layout import USER_EVENTS
from feature_stream.settings import StreamSettings
from fraud_common.avro import latest_encoder
from fraud_common.redis import connect
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from fraud_common.topics import TRANSACTIONS
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

METRICS_PORT = 9466
START = datetime(2024, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of this run alone."""

    transactions: str
    labels: str


def payments(settings: StreamSettings, users: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Keys and values of payments over 30 days, in order of time."""
    encoder = latest_encoder(SchemaRegistry(settings.schema_registry_url), TRANSACTIONS)
    draw = random.Random(1)
    for number in range(count):
        user = f"U{draw.randrange(users)}"
        record = {
            "transaction_id": f"bench-{number:09d}",
            "user_id": user,
            "amount": Decimal(draw.randint(100, 50_000)) / 100,
            "currency": "EUR",
            "merchant_id": f"M{draw.randrange(2000)}",
            "merchant_name": "a shop",
            "country": draw.choice(("DE", "FR", "US")),
            "city": "Berlin",
            "device_id": f"{user}-d{draw.randrange(3)}",
            "device_type": "mobile",
            "event_time": START + timedelta(seconds=30 * 86_400 * number / count),
            "is_international": draw.random() < 0.1,
            "metadata": {},
        }
        yield user, encoder.encode(record)


@contextmanager
def own_topics(settings: StreamSettings) -> Iterator[Topics]:
    """Topics that are gone afterwards."""
    name = f"stream-bench-{uuid.uuid4().hex[:8]}"
    topics = Topics(f"{name}-raw", f"{name}-labels")
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    names = [topics.transactions, topics.labels]
    for future in admin.create_topics([NewTopic(each, 10, 1) for each in names]).values():
        future.result()
    try:
        yield topics
    finally:
        for future in admin.delete_topics(names).values():
            future.result()


@contextmanager
def streaming(topics: Topics) -> Iterator[None]:
    """A feature stream in a process of its own."""
    environment = os.environ | {
        "TRANSACTIONS_TOPIC": topics.transactions,
        "LABELS_TOPIC": topics.labels,
        "FEATURE_STREAM_GROUP": topics.transactions,
        "FEATURE_STREAM_FROM": "kafka",
        "METRICS_PORT": str(METRICS_PORT),
    }
    command = [sys.executable, "-m", "feature_stream"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def read(store: redis.Redis) -> int:
    """How many messages Redis has."""
    return sum(coverage.positions(store).values())


def catch_up(store: redis.Redis, topics: Topics, count: int) -> float:
    """Messages a second, from the first that is in Redis to the last."""
    with streaming(topics):
        while (begin := read(store)) == 0:
            time.sleep(0.01)
        started = time.monotonic()
        with tqdm(total=count, desc="catching up", file=sys.stderr, disable=None) as progress:
            while (now := read(store)) < count:
                progress.update(now - progress.n)
                time.sleep(0.05)
        return (count - begin) / (time.monotonic() - started)


def delays() -> dict[float, float]:
    """The stream's histogram: how many payments were in Redis within so many seconds."""
    text = httpx2.get(f"http://localhost:{METRICS_PORT}/metrics").text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "feature_stream_delay_seconds_bucket"
    }


def quantile(counts: dict[float, float], share: float) -> float:
    """As Prometheus does: linear within a bucket."""
    rank, low, below = share * counts[float("inf")], 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= rank:
            return low + (bound - low) * (rank - below) / max(count - below, 1)
        low, below = bound, count
    return float("inf")


def at_rate(
    store: redis.Redis, topics: Topics, messages: list[tuple[str, bytes]], rate: int, send: Producer
) -> dict[float, float]:
    """The delays of payments at a constant rate, without those of the first five seconds."""
    with streaming(topics):
        before: dict[float, float] = {}
        start = time.monotonic()
        for number, (user, value) in enumerate(messages):
            if (wait := start + number / rate - time.monotonic()) > 0:
                send.poll(wait)
            send.produce(topics.transactions, value, user.encode())
            if number == 5 * rate:
                before = delays()
        send.flush(30)
        while read(store) < len(messages):
            time.sleep(0.01)
        after = delays()
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def main(
    count: Annotated[int, typer.Option(min=1000, help="Messages to catch up with.")] = 300_000,
    users: Annotated[int, typer.Option(min=1, help="Their users: 60 payments each, by default.")] = 5_000,
    rate: Annotated[int, typer.Option(min=1, help="Payments a second.")] = 1_000,
    seconds: Annotated[int, typer.Option(min=10, help="For how long.")] = 30,
) -> None:
    """Measure, and print the table. Empties Redis before and after."""
    settings = load_settings(StreamSettings)
    store = connect(settings, retries=3)
    send = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 2, "acks": "all"})
    store.flushdb()
    empty = store.info("memory")["used_memory"]
    with own_topics(settings) as topics:
        for user, value in tqdm(payments(settings, users, count), total=count, file=sys.stderr, disable=None):
            send.produce(topics.transactions, value, user.encode())
            send.poll(0) if len(send) < 50_000 else send.flush(30)
        send.flush(30)
        speed = catch_up(store, topics, count)
        memory = store.info("memory")["used_memory"] - empty
        one = next(store.scan_iter(match=USER_EVENTS.format("*"), count=100))
        payments_of_one, size = store.zcard(one), store.memory_usage(one) or 0
    store.flushdb()
    with own_topics(settings) as topics:
        messages = list(payments(settings, users, rate * seconds))
        counts = at_rate(store, topics, messages, rate, send)
    store.flushdb()
    p50, p99 = quantile(counts, 0.5), quantile(counts, 0.99)
    within = sum(count for bound, count in counts.items() if bound == 1.0) / counts[float("inf")]
    print("| features in Redis, one process | result |")
    print("|---|---|")
    print(f"| catching up with {count:,} payments of {users:,} users | {speed:,.0f} payments/s |")
    print(
        f"| {rate:,} payments/s for {seconds} s, from Kafka's timestamp to Redis |"
        f" p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms, {within:.2%} within a second |"
    )
    print(f"| memory | {memory / users:,.0f} bytes a user; {size:,} bytes for a user with {payments_of_one} payments |")


if __name__ == "__main__":
    typer.run(main)

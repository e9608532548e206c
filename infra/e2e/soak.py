"""Watches a running stack minute by minute, then stops the producer and counts every payment of that time.

Prints Markdown: the series, each service's memory after the warm-up and at the end, and the counts. Exit code 1 when a
payment is lost or duplicated, or memory grew beyond the limit. Run by `make bench PARTS=soak`.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import mean
from typing import Any

import docker
import httpx2
from feature_store.lakehouse import gold_cursor
from fraud_common.avro import decode
from fraud_common.settings import TrinoSettings
from fraud_common.topics import DEAD_LETTERS, SCORED, TRANSACTIONS
from kafka_tools import read_topic, schema_of
from lags import bronze_lag, ends, scorer_lag, stream_lag
from serving_stack import metric, postgres, service, wait_until

PROMETHEUS = "http://prometheus:9090"
P95 = "histogram_quantile(0.95, sum by (le) (rate(fraud_batch_latency_seconds_bucket[1m]))) * 1000"
GROWTH_LIMIT = 0.10
# The means over so many minutes, after the warm-up and at the end, are compared.
WINDOW = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """The stack at one moment."""

    minute: float
    sent: int
    scored: int
    lags: dict[str, int]  # by consumer
    p95_ms: float
    memory: dict[str, int]  # MiB by service


def print_row(*cells: str) -> None:
    """A row of a Markdown table, at once."""
    print("| " + " | ".join(cells) + " |", flush=True)


def print_head(*cells: str) -> None:
    """The head of a Markdown table."""
    print()
    print_row(*cells)
    print("|" + "---|" * len(cells))


def memory_of_processes() -> dict[str, int]:
    """Anonymous memory of each service in MiB: that of its processes, without the page cache of their files."""
    project = f"com.docker.compose.project={os.environ['COMPOSE_PROJECT_NAME']}"
    running = docker.from_env().containers.list(filters={"label": [project, "com.docker.compose.oneoff=False"]})

    def of(container: Any) -> tuple[str, int]:
        stats = container.stats(stream=False, one_shot=True)["memory_stats"].get("stats", {})
        used = stats.get("anon", stats.get("total_rss", 0))  # cgroup v2, v1
        return container.labels["com.docker.compose.service"], used // 2**20

    with ThreadPoolExecutor(8) as pool:
        return dict(sorted(pool.map(of, running)))


def p95_ms() -> float:
    """Latency of the scorer's requests inside the API over the last minute."""
    answer = httpx2.get(f"{PROMETHEUS}/api/v1/query", params={"query": P95}, timeout=30).raise_for_status().json()
    return float(answer["data"]["result"][0]["value"][1]) if answer["data"]["result"] else float("nan")


def look(started: float) -> Sample:
    """Take a sample."""
    lags = {"Bronze": bronze_lag(), "the scorer": scorer_lag(), "the stream": stream_lag()}
    sent, scored = sum(ends(TRANSACTIONS).values()), sum(ends(SCORED).values())
    return Sample((time.monotonic() - started) / 60, sent, scored, lags, p95_ms(), memory_of_processes())


def watch(minutes: int) -> list[Sample]:
    """Take a sample a minute, and print each."""
    started = time.monotonic()
    samples = [look(started)]
    print_head(
        "minute", "sent/s", "scored/s", "lag of Bronze", "of the scorer", "of the stream", "p95 ms", "memory MiB"
    )
    while samples[-1].minute < minutes:
        time.sleep(max(0.0, started + 60 * len(samples) - time.monotonic()))
        before, now = samples[-1], look(started)
        samples.append(now)
        seconds = 60 * (now.minute - before.minute)
        rates = [(now.sent - before.sent) / seconds, (now.scored - before.scored) / seconds]
        print_row(
            f"{now.minute:.0f}",
            *[f"{rate:.0f}" for rate in rates],
            *[f"{lag:,}" for lag in now.lags.values()],
            f"{now.p95_ms:.1f}",
            f"{sum(now.memory.values()):,}",
        )
    return samples


def memory_growth(samples: list[Sample], warm_up: int) -> float:
    """Print each service's memory after the warm-up and at the end; returns the growth of the sum."""
    warm, last = samples[warm_up : warm_up + WINDOW], samples[-WINDOW:]
    names = sorted({name for sample in samples for name in sample.memory})
    means = {name: [mean(sample.memory.get(name, 0) for sample in window) for window in (warm, last)] for name in names}
    means["all"] = [sum(each) for each in zip(*means.values(), strict=True)]
    print_head("memory, MiB", f"minutes {warm_up} to {warm_up + WINDOW}", f"last {WINDOW} minutes", "change")
    for name, (before, after) in means.items():
        print_row(name, f"{before:,.0f}", f"{after:,.0f}", f"{after - before:+,.0f}")
    before, after = means["all"]
    return after / before - 1


def ids_in(topic: str, begin: Mapping[int, int]) -> Counter[str]:
    """How often each transaction id is in a topic from these offsets on."""
    schema = schema_of(topic)
    return Counter(
        str(decode(message.value() or b"", schema)["transaction_id"]) for message in read_topic(topic, begin)
    )


def ids_in_bronze(begin: Mapping[int, int]) -> Counter[str]:
    """The same for the rows that Bronze has from these offsets on."""
    since = " or ".join(f"(kafka_partition = {each} and kafka_offset >= {offset})" for each, offset in begin.items())
    with gold_cursor(TrinoSettings()) as trino:
        trino.execute(f"select transaction_id from bronze.transactions where {since}")
        return Counter(transaction_id for (transaction_id,) in trino)


def ids_in_predictions(since: float) -> Counter[str]:
    """The same for the predictions that were made since then."""
    # A named cursor reads on the server's side, in pieces; it needs a transaction.
    connection = postgres()
    connection.autocommit = False
    with connection, connection.cursor("soak") as cursor:
        cursor.execute("select transaction_id from predictions where predicted_at >= to_timestamp(%s)", (since,))
        return Counter(transaction_id for (transaction_id,) in cursor)


def every_payment_once(sent: Counter[str], places: Mapping[str, Counter[str]]) -> bool:
    """Print what is missing and what is duplicated in each place; returns whether nothing is."""
    print_head("place", "payments", "missing", "duplicated")
    print_row("transactions.raw", f"{len(sent):,}", "", f"{sent.total() - len(sent):,}")
    complete = sent.total() == len(sent) > 0
    for place, found in places.items():
        missing = len(sent.keys() - found.keys())
        duplicated = sum(found[each] - 1 for each in sent if found[each] > 1)
        print_row(place, f"{len(sent) - missing:,}", f"{missing:,}", f"{duplicated:,}")
        complete = complete and not missing and not duplicated
    return complete


def main() -> int:
    """Watch, stop the producer, count; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=45, help="after the warm-up (45)")
    parser.add_argument("--warm-up", type=int, default=10, help="minutes before the first comparison (10)")
    arguments = parser.parse_args()
    raw, scored, refused = ends(TRANSACTIONS), ends(SCORED), ends(DEAD_LETTERS)
    since = time.time() - 60
    samples = watch(arguments.warm_up + arguments.minutes)
    growth = memory_growth(samples, arguments.warm_up)
    service("producer").stop(timeout=60)
    for reader, lag in (("Bronze", bronze_lag), ("the scorer", scorer_lag), ("the feature stream", stream_lag)):
        wait_until(lambda lag=lag: lag() == 0, f"{reader} has caught up", 300)
    wait_until(lambda: metric("fraud_prediction_backlog") == 0, "all predictions in Postgres")
    places = {
        "Bronze": ids_in_bronze(raw),
        "transactions.scored": ids_in(SCORED, scored),
        "predictions": ids_in_predictions(since),
    }
    once = every_payment_once(ids_in(TRANSACTIONS, raw), places)
    dead = len(read_topic(DEAD_LETTERS, refused))
    print(f"\nEvery payment is in every place once: {'yes' if once else 'NO'}; dead letters: {dead}.")
    print(f"Memory after the warm-up and at the end: {growth:+.1%}; the limit is {GROWTH_LIMIT:+.0%}.")
    return 0 if once and not dead and growth <= GROWTH_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

"""The producer's measurements: at full speed, and at fixed rates, on a topic of its own on the running broker.

Prints one JSON line for each: python3 bench/bench_producer.py --messages N --seconds S --tps T (may be repeated).
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass

import numpy as np
from confluent_kafka.admin import NewTopic
from fraud_common.avro import load_encoder
from fraud_common.errors import one_line_errors
from fraud_common.kafka import wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.settings import load_settings
from fraud_common.topics import MAX_RECORD_BYTES, TRANSACTIONS
from producer.delivery import Delivery
from producer.pacing import Pacer
from producer.settings import Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream
from producer.simulator.world import partitions_of

BENCH_TOPIC = "bench.transactions"
PARTITIONS = 10
BENCH_DAY = 20_000
SLICE = 500
WARM_UP_MESSAGES = 50_000


@dataclass(frozen=True)
class Result:
    """One measurement; the rate counts acknowledged messages over the whole time, up to the last acknowledgement."""

    target_tps: float | None
    messages: int
    seconds: float
    messages_per_second: float
    record_bytes: float


def run_bench(settings: Settings, messages: int, rates: list[float], seconds: float) -> None:
    """Measure, and print one JSON line for each measurement."""
    admin = wait_for_broker(settings)
    config = {"max.message.bytes": str(MAX_RECORD_BYTES), "retention.ms": "600000"}
    for future in admin.create_topics([NewTopic(BENCH_TOPIC, PARTITIONS, 1, config=config)]).values():
        future.exception()  # it may exist from an earlier run
    measure(settings, WARM_UP_MESSAGES, None)  # connections, caches and the broker's compiler
    print(json.dumps(asdict(measure(settings, messages, None))), flush=True)
    for rate in rates:
        print(json.dumps(asdict(measure(settings, round(rate * seconds), rate))), flush=True)


def measure(settings: Settings, messages: int, rate: float | None) -> Result:
    """Make, encode and send simulated transactions exactly as the producer does.

    Args:
        rate: messages a second; None is as fast as possible.
    """
    stream = Stream(settings.sim_seed, settings.sim_users, BENCH_DAY, profile=settings.sim_profile)
    records = Records(stream)
    partition_of = partitions_of(stream.world.users, PARTITIONS)
    encoder = load_encoder(SchemaRegistry(settings.schema_registry_url), settings.schema_dir, TRANSACTIONS)
    delivery = Delivery(settings)
    sent, size, day = 0, 0, BENCH_DAY
    started = time.monotonic()
    pacer = Pacer(rate) if rate else None
    if pacer:
        pacer.start()
    while sent < messages:
        block = stream.block(day)
        day, done = day + 1, 0
        while done < len(block.payments) and sent < messages:
            limit = min(SLICE, len(block.payments) - done, messages - sent)
            due = limit if pacer is None else pacer.due(block.arrival_ms, done, limit, delivery.poll)
            if due == 0:
                continue
            index = np.arange(done, done + due)
            payments = block.payments.take(index)
            batch = [
                {"key": records.keys[user], "value": encoder.encode(record), "partition": partition}
                for user, partition, record in zip(
                    payments.user.tolist(),
                    partition_of[payments.user].tolist(),
                    records.transactions(payments, block.positions[index]),
                    strict=True,
                )
            ]
            size += sum(len(message["value"]) for message in batch)
            delivery.send_batch(BENCH_TOPIC, batch)
            done, sent = done + due, sent + due
    delivery.flush()
    elapsed = time.monotonic() - started
    return Result(
        target_tps=rate,
        messages=delivery.delivered,
        seconds=round(elapsed, 3),
        messages_per_second=round(delivery.delivered / elapsed, 1),
        record_bytes=round(size / sent, 1),
    )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many the full-speed measurement sends")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each measurement at a fixed rate takes")
    parser.add_argument("--tps", type=float, action="append", help="a fixed rate to measure (may be repeated)")
    options = parser.parse_args()
    with one_line_errors():
        run_bench(load_settings(Settings), options.messages, options.tps or [100.0, 5000.0], options.seconds)


if __name__ == "__main__":
    main()

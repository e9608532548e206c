"""The producer's measurements: as fast as it goes, and at fixed rates, on a topic of its own on the running broker."""

import json
import time
from dataclasses import asdict, dataclass

import numpy as np
from confluent_kafka.admin import NewTopic

from producer.delivery import Delivery
from producer.kafka import wait_for_broker
from producer.pacing import Pacer
from fraud_common.schema_registry import Registry, load_encoder
from producer.settings import MAX_RECORD_BYTES, TRANSACTIONS_TOPIC, Settings
from producer.simulator.records import Records
from producer.simulator.stream import Stream

BENCH_TOPIC = "bench.transactions"
PARTITIONS = 10
BENCH_DAY = 20_000
SLICE = 500


@dataclass(frozen=True)
class Result:
    """One measurement; the rate counts acknowledged messages over the whole time, the last acknowledgement included."""

    wanted_tps: float | None
    messages: int
    seconds: float
    messages_per_second: float
    record_bytes: float


def run_bench(settings: Settings, messages: int, rates: list[float], seconds: float) -> None:
    """Measure and print one JSON line for each measurement."""
    admin = wait_for_broker(settings)
    config = {"max.message.bytes": str(MAX_RECORD_BYTES), "retention.ms": "600000"}
    for future in admin.create_topics([NewTopic(BENCH_TOPIC, PARTITIONS, 1, config=config)]).values():
        future.exception()  # it may be there from an earlier run
    _measure(settings, 50_000, None)  # connections, caches and the broker's compiler warm up
    print(json.dumps(asdict(_measure(settings, messages, None))), flush=True)
    for rate in rates:
        print(json.dumps(asdict(_measure(settings, round(rate * seconds), rate))), flush=True)


def _measure(settings: Settings, messages: int, rate: float | None) -> Result:
    """Make, encode and send simulated transactions exactly as the producer does."""
    stream = Stream(settings.sim_seed, settings.sim_users, BENCH_DAY)
    records = Records(stream)
    partition_of = stream.people.partitions(PARTITIONS)
    encoder = load_encoder(Registry(settings.schema_registry_url), settings.schema_dir, TRANSACTIONS_TOPIC)
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
        rate, delivery.delivered, round(elapsed, 3), round(delivery.delivered / elapsed, 1), round(size / sent, 1)
    )

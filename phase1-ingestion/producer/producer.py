"""The producer: sends the simulated stream to Kafka, first the history as fast as it goes, then at PRODUCER_TPS.

Downstream are the Bronze writer, the feature stream and the scorer. Upstream is nothing but the seed.
"""

import logging
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import start_http_server

from producer import metrics
from fraud_common.dead_letters import Decoder
from producer.delivery import Delivery
from fraud_common.errors import SerializationError
from producer.kafka import consumer, require_topics, wait_for_broker
from producer.pacing import Pacer
from fraud_common.schema_registry import Registry, load_encoder
from producer.resume import Simulation, last_of_each_partition, load_or_start, not_yet_sent, reader
from producer.settings import DEAD_LETTER_TOPIC, LABELS_TOPIC, TRANSACTIONS_TOPIC, Settings
from producer.simulator.burst import Burst, label_of, own_id
from producer.simulator.invalid import make_invalid
from producer.simulator.payments import DAY_MS, Payments
from producer.simulator.records import Records
from producer.simulator.stream import POSITIONS_A_DAY, Labels, Stream, position_of
from fraud_common.avro import Encoder

log = logging.getLogger("producer")

# Messages that are encoded and queued at a time: small enough to stop within milliseconds.
SLICE = 500
NOTHING_SENT = -1


def wanted_simulation(settings: Settings, now_ms: int) -> Simulation:
    """The simulation of a fresh stack: back-fill, then a runway until the simulated clock meets the real one."""
    today = now_ms // DAY_MS
    live_day = today if settings.producer_tps == "natural" else today - settings.runway_days
    return Simulation(
        settings.sim_seed, settings.sim_users, settings.label_delay_scale, live_day - settings.backfill_days, live_day
    )


@dataclass
class Resume:
    """What Kafka already has: for each partition the last position of a payment, and the last label."""

    payments: np.ndarray  # (partitions,) position or -1
    label_reported: np.ndarray  # (partitions,) reported_ms of the last label, or -1
    label_position: np.ndarray  # (partitions,) and the payment that it is about

    def first_day(self, start_day: int) -> int:
        """The earliest day of which some payment may be missing."""
        return start_day if (self.payments < 0).any() else int(self.payments.min()) // POSITIONS_A_DAY

    def first_label_day(self, start_day: int) -> int:
        """The earliest day of which some label may be missing."""
        return start_day if (self.label_reported < 0).any() else int(self.label_reported.min()) // DAY_MS


class Simulator:
    """One run of the producer over a stream."""

    def __init__(
        self,
        settings: Settings,
        simulation: Simulation,
        partitions: int,
        delivery: Delivery,
        stop: threading.Event,
    ) -> None:
        registry = Registry(settings.schema_registry_url)
        self.settings = settings
        self.simulation = simulation
        self.delivery = delivery
        self._stop = stop
        self.stream = Stream(
            simulation.sim_seed,
            simulation.sim_users,
            simulation.start_day,
            simulation.live_day,
            simulation.label_delay_scale,
        )
        self._records = Records(self.stream)
        self._partition = self.stream.people.partitions(partitions)
        self._burst = Burst(simulation.sim_seed, settings.fraud_burst, self.stream.people, self.stream.merchants)
        self._burst_labels: deque[tuple[int, dict[str, Any]]] = deque()
        self._transaction_encoder = load_encoder(registry, settings.schema_dir, TRANSACTIONS_TOPIC)
        self._label_encoder = load_encoder(registry, settings.schema_dir, LABELS_TOPIC)
        self._day_labels = (NOTHING_SENT, Labels(*(np.empty(0, np.int64),) * 5))
        self.resume = self._find_resume(settings, registry, partitions)

    def _find_resume(self, settings: Settings, registry: Registry, partitions: int) -> Resume:
        decoder, client = Decoder(registry), consumer(settings)
        payments = np.full(partitions, NOTHING_SENT)
        reported, about = np.full(partitions, NOTHING_SENT), np.full(partitions, NOTHING_SENT)
        last = last_of_each_partition(client, TRANSACTIONS_TOPIC, reader(decoder, _payment_position))
        for partition, position in last.items():
            payments[partition] = position
        labels = last_of_each_partition(client, LABELS_TOPIC, reader(decoder, _label_position))
        for partition, (reported_ms, position) in labels.items():
            reported[partition], about[partition] = reported_ms, position
        client.close()
        return Resume(payments, reported, about)

    def run(self) -> None:
        """Send the stream until `stop` is set."""
        pacer = Pacer(self.settings.producer_tps)
        first_day = self.resume.first_day(self.simulation.start_day)
        self._catch_up_labels(first_day)
        day = first_day
        while not self._stop.is_set():
            live = day >= self.simulation.live_day
            if live and not pacer.started:
                pacer.start()
                log.info("history is complete; live from here", extra={"fields": {"tps": self.settings.producer_tps}})
            self._send_day(day, pacer if live else None)
            day += 1
        self._send_burst_labels()

    def _send_day(self, day: int, pacer: Pacer | None) -> None:
        block = self.stream.block(day)
        payments, positions, arrival = block.payments, block.positions, block.arrival_ms
        missing = not_yet_sent(positions, self._partition[payments.user], self.resume.payments)
        if not missing.all():
            payments, positions, arrival = payments.take(missing), positions[missing], arrival[missing]
        sent = 0
        while sent < len(positions) and not self._stop.is_set():
            due = SLICE if pacer is None else pacer.due(arrival, sent, SLICE, self.delivery.poll)
            if due == 0:
                continue
            part = slice(sent, sent + due)
            index = np.arange(len(positions))[part]
            self._send_payments(payments.take(index), positions[part], day)
            sent += len(index)
            self._send_labels(day, int(arrival[part][-1]))
            self._send_burst_labels(int(arrival[part][-1]))
            self._report(day, arrival[part][-1])
        if not self._stop.is_set():
            self._send_labels(day, (day + 1) * DAY_MS)
            self._report(day, (day + 1) * DAY_MS)

    def _send_payments(self, payments: Payments, positions: np.ndarray, day: int) -> None:
        records = list(self._records.transactions(payments, positions))
        self._send_records(TRANSACTIONS_TOPIC, self._transaction_encoder, payments.user, records)
        if self.settings.fraud_burst and day >= self.simulation.live_day:
            self._send_burst(payments, positions)
        if self.settings.invalid_rate:
            rng = np.random.default_rng([self.settings.sim_seed, 4, int(positions[0])])
            self._send_invalid(records, rng)

    def _send_records(self, topic: str, encoder: Encoder, users: np.ndarray, records: list[dict[str, Any]]) -> None:
        """Each under its user's key, and so in its partition."""
        keys, partitions = self._records.keys, self._partition[users].tolist()
        batch = [
            {"key": keys[user], "value": encoder.encode(record), "partition": partition}
            for user, partition, record in zip(users.tolist(), partitions, records, strict=True)
        ]
        self.delivery.send_batch(topic, batch)

    def _send_burst(self, payments: Payments, positions: np.ndarray) -> None:
        extra, beside = self._burst.beside(payments, positions)
        records = [own_id(record) for record in self._records.transactions(extra, beside)]
        self._send_records(TRANSACTIONS_TOPIC, self._transaction_encoder, extra.user, records)
        self._burst_labels.extend(zip(extra.user.tolist(), map(label_of, records), strict=True))

    def _send_burst_labels(self, until_ms: int | None = None) -> None:
        """Send the burst's labels that are reported up to a moment; at the end all, since nobody else knows them."""
        due = []
        while self._burst_labels and (until_ms is None or self._burst_labels[0][1]["reported_at"] <= until_ms):
            due.append(self._burst_labels.popleft())
        if due:
            users = np.array([user for user, _ in due])
            self._send_records(LABELS_TOPIC, self._label_encoder, users, [label for _, label in due])

    def _send_invalid(self, good: list[dict[str, Any]], rng: np.random.Generator) -> None:
        encoder = self._transaction_encoder
        for bad in make_invalid(good, self.settings.invalid_rate, encoder, rng):
            key = bad.record["user_id"].encode() if bad.record else bad.kind.encode()
            try:
                value = bad.value if bad.record is None else encoder.encode(bad.record)
            except SerializationError as error:
                self.delivery.dead_letter_record(TRANSACTIONS_TOPIC, key, bad.record or {}, error)
            else:
                self.delivery.send_batch(TRANSACTIONS_TOPIC, [{"key": key, "value": value}])

    def _send_labels(self, day: int, until_ms: int) -> None:
        """Send the labels of `day` that are reported up to a moment and were not sent yet."""
        if self._day_labels[0] != day:
            labels = self.stream.labels(day)
            partition = self._partition[labels.user]
            last_reported, last_about = self.resume.label_reported[partition], self.resume.label_position[partition]
            missing = (labels.reported_ms > last_reported) | (
                (labels.reported_ms == last_reported) & (labels.position > last_about)
            )
            self._day_labels = (day, labels.take(missing))
        _, labels = self._day_labels
        count = int(np.searchsorted(labels.reported_ms, until_ms, side="right"))
        if count == 0:
            return
        due = labels.take(np.arange(count))
        self._day_labels = (day, labels.take(np.arange(count, len(labels))))
        self._send_records(LABELS_TOPIC, self._label_encoder, due.user, list(self._records.labels(due)))

    def _catch_up_labels(self, first_day: int) -> None:
        """After a crash labels may lag behind the payments: send those of the days before."""
        for day in range(self.resume.first_label_day(self.simulation.start_day), first_day):
            self._send_labels(day, (day + 1) * DAY_MS)

    def _report(self, day: int, clock_ms: int) -> None:
        self.delivery.poll(0)
        start, live = self.simulation.start_day, self.simulation.live_day
        metrics.SIMULATED_TIME.set(clock_ms / 1000)
        metrics.BACKFILL_SENT.set(min(live - start, clock_ms / DAY_MS - start))


def _payment_position(record: dict[str, Any]) -> int | None:
    return position_of(record["transaction_id"])


def _label_position(record: dict[str, Any]) -> tuple[int, int] | None:
    position = position_of(record["transaction_id"])
    return None if position is None else (int(record["reported_at"].timestamp() * 1000), position)


def run_producer(settings: Settings) -> None:
    """Connect, find where the stream stands, send until SIGTERM, then deliver what is in flight and say the counts.

    Raises:
        UserError: a setting is wrong, or the broker or the registry doesn't answer.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    admin = wait_for_broker(settings)
    partitions = require_topics(admin, TRANSACTIONS_TOPIC, LABELS_TOPIC, DEAD_LETTER_TOPIC)[TRANSACTIONS_TOPIC]
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    if settings.simulator == "off":
        # Stay up, so that the stack is the same with and without simulated traffic.
        log.info("SIMULATOR=off: no simulated traffic; send your own with make replay FILE=…")
        metrics.RUNNING.set(1)
        stop.wait()
        return
    now_ms = int(time.time() * 1000)
    simulation = load_or_start(settings.state_dir / "simulation.json", wanted_simulation(settings, now_ms))
    delivery = Delivery(settings)
    simulator = Simulator(settings, simulation, partitions, delivery, stop)
    metrics.BACKFILL_TOTAL.set(simulation.live_day - simulation.start_day)
    metrics.RUNNING.set(1)
    resumed = bool((simulator.resume.payments >= 0).any())
    log.info("running", extra={"fields": {**vars(simulation), "resumed": resumed}})
    try:
        simulator.run()
    finally:
        delivery.flush()
        log.info("stopped", extra={"fields": {**vars(delivery.counts), "delivered": delivery.delivered}})

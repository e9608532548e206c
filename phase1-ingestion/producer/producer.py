"""The producer: sends the simulated stream to Kafka, first the history at full speed, then live at PRODUCER_TPS.

Downstream are the Bronze writer, the feature stream and the scorer. Upstream there is only the seed.
"""

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from fraud_common.avro import Encoder
from fraud_common.errors import SerializationError
from fraud_common.kafka import require_topics, wait_for_broker
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import DEAD_LETTERS, LABELS, SCORED, TRANSACTIONS

from producer import declines, metrics
from producer.declines import Declines, follow_declines
from producer.delivery import Delivery
from producer.encoders import load_encoders
from producer.pacing import Pacer
from producer.position import START_OVER, combine, load_position, missing_in_kafka, save_position
from producer.resume import Resume, find_resume
from producer.settings import Settings
from producer.simulation import Simulation, load_or_start, new_simulation
from producer.simulator.burst import Burst, label_of, own_id
from producer.simulator.invalid import make_invalid
from producer.simulator.payments import DAY_MS, Payments
from producer.simulator.records import Records
from producer.simulator.stream import Labels
from producer.simulator.world import partitions_of

log = logging.getLogger("producer")

# Messages that are encoded and queued at a time: small enough to stop within milliseconds.
SLICE = 500
SECONDS_BETWEEN_SAVES = 5.0
# How long the stream pauses until everything is acknowledged; if it isn't by then, the next save comes later.
SETTLE_SECONDS = 0.5


class Simulator:
    """One run of the producer over a stream."""

    def __init__(
        self,
        settings: Settings,
        *,
        simulation: Simulation,
        encoders: dict[str, Encoder],
        resume: Resume,
        delivery: Delivery,
        stop: threading.Event,
        declined: deque[str] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            declined: the ids of declined payments, to which another thread adds; None if decisions have no effect.

        Raises:
            UserError: the file that says what was not sent can't be used.
        """
        self._settings = settings
        self._simulation = simulation
        # Earlier runs may have left payments out, so that their labels are left out in this one.
        self._declines = Declines(
            settings.state_dir / declines.FILE, simulation, deque() if declined is None else declined
        )
        self._declines_end_frauds = declined is not None
        self._encoders = encoders
        self._resume = resume
        self._reached = resume.copy()  # what was handed to the delivery
        self._saved_at = time.monotonic()
        self._delivery = delivery
        self._stop = stop
        self._stream = simulation.stream()
        self._records = Records(self._stream)
        self._partition = partitions_of(self._stream.world.users, resume.partitions)
        self._burst = Burst(simulation.sim_seed, settings.fraud_burst, self._stream.world)
        self._burst_labels: deque[tuple[int, dict[str, Any]]] = deque()  # cardholder and label, by reported_at
        self._labels_day: int | None = None
        self._day_labels = Labels(*(np.empty(0, np.int64),) * 5)  # those of that day that are not sent yet

    def run(self) -> None:
        """Send the stream until `stop` is set."""
        pacer = Pacer(self._settings.producer_tps)
        day = self._resume.first_day(self._simulation.start_day)
        self._catch_up_labels(day)
        while not self._stop.is_set():
            live = day >= self._simulation.live_day
            if live and not pacer.started:
                pacer.start()
                log.info("history is complete; live from here", extra={"tps": self._settings.producer_tps})
            self._send_day(day, pacer if live else None)
            day += 1
        self._send_burst_labels()

    def _send_day(self, day: int, pacer: Pacer | None) -> None:
        block = self._stream.block(day)
        payments, positions, arrival = block.payments, block.positions, block.arrival_ms
        missing = self._resume.missing_payments(positions, self._partition[payments.user])
        if not missing.all():
            payments, positions, arrival = payments.take(missing), positions[missing], arrival[missing]
        sent = 0
        while sent < len(positions) and not self._stop.is_set():
            due = SLICE if pacer is None else pacer.due(arrival, sent, SLICE, self._delivery.poll)
            if due == 0:
                continue
            index = np.arange(sent, min(sent + due, len(positions)))
            now_ms = int(arrival[index[-1]])
            self._send_payments(payments.take(index), positions[index], day)
            sent += len(index)
            self._send_labels(day, now_ms)
            self._send_burst_labels(now_ms)
            self._report(now_ms)
        if not self._stop.is_set():
            end_of_day = (day + 1) * DAY_MS
            self._send_labels(day, end_of_day)
            self._report(end_of_day)

    def _send_payments(self, payments: Payments, positions: np.ndarray, day: int) -> None:
        if self._declines_end_frauds and day >= self._simulation.live_day:
            goes_out = self._declines.choose(payments, positions)
            payments, positions = payments.take(goes_out), positions[goes_out]
            if not len(positions):
                return
        records = list(self._records.transactions(payments, positions))
        self._send_records(TRANSACTIONS, payments.user, records)
        np.maximum.at(self._reached.payments, self._partition[payments.user], positions)
        if self._settings.fraud_burst and day >= self._simulation.live_day:
            self._send_burst(payments, positions)
        if self._settings.invalid_rate:
            rng = np.random.default_rng([self._settings.sim_seed, 4, int(positions[0])])
            self._send_invalid(records, rng)

    def _send_records(self, topic: str, users: np.ndarray, records: list[dict[str, Any]]) -> None:
        """Send each record under its user's key, and so in its partition."""
        keys, partitions, encoder = self._records.keys, self._partition[users].tolist(), self._encoders[topic]
        batch = [
            {"key": keys[user], "value": encoder.encode(record), "partition": partition}
            for user, partition, record in zip(users.tolist(), partitions, records, strict=True)
        ]
        self._delivery.send_batch(topic, batch)

    def _send_burst(self, payments: Payments, positions: np.ndarray) -> None:
        extra, beside = self._burst.beside(payments, positions)
        records = [own_id(record) for record in self._records.transactions(extra, beside)]
        self._send_records(TRANSACTIONS, extra.user, records)
        self._burst_labels.extend(zip(extra.user.tolist(), map(label_of, records), strict=True))

    def _send_burst_labels(self, until_ms: int | None = None) -> None:
        """Send the burst's labels that are reported up to a moment; without one all, since they are kept only here."""
        users, labels = [], []
        while self._burst_labels:
            user, label = self._burst_labels[0]
            if until_ms is not None and label["reported_at"] > until_ms:
                break
            self._burst_labels.popleft()
            users.append(user)
            labels.append(label)
        if labels:
            self._send_records(LABELS, np.array(users), labels)

    def _send_invalid(self, good: list[dict[str, Any]], rng: np.random.Generator) -> None:
        encoder = self._encoders[TRANSACTIONS]
        for bad in make_invalid(good, self._settings.invalid_rate, encoder, rng):
            key = bad.record["user_id"].encode() if bad.record else bad.kind.encode()
            try:
                value = bad.value if bad.record is None else encoder.encode(bad.record)
            except SerializationError as error:
                self._delivery.dead_letter_record(TRANSACTIONS, key, bad.record or {}, error)
            else:
                self._delivery.send_batch(TRANSACTIONS, [{"key": key, "value": value}])

    def _send_labels(self, day: int, until_ms: int) -> None:
        """Send the labels of `day` that are reported up to a moment and were not sent yet."""
        if self._labels_day != day:
            labels = self._stream.labels(day)
            self._labels_day = day
            self._day_labels = labels.take(self._resume.missing_labels(labels, self._partition[labels.user]))
        labels = self._day_labels
        count = int(np.searchsorted(labels.reported_ms, until_ms, side="right"))
        if count == 0:
            return
        due = self._declines.labels_of_sent(labels.take(np.arange(count)))
        self._day_labels = labels.take(np.arange(count, len(labels)))
        if not len(due):
            return
        self._send_records(LABELS, due.user, list(self._records.labels(due)))
        # They are in the stream's order, and of several in a partition the last one counts.
        partition = self._partition[due.user]
        self._reached.label_reported[partition] = due.reported_ms
        self._reached.label_position[partition] = due.position

    def _catch_up_labels(self, first_day: int) -> None:
        """After a crash labels may lag behind the payments: send those of the days before."""
        for day in range(self._resume.first_label_day(self._simulation.start_day), first_day):
            self._send_labels(day, (day + 1) * DAY_MS)

    def _report(self, clock_ms: int) -> None:
        self._delivery.poll(0)
        start, live = self._simulation.start_day, self._simulation.live_day
        metrics.SIMULATED_TIME.set(clock_ms / 1000)
        metrics.BACKFILL_SENT.set(min(live - start, clock_ms / DAY_MS - start))
        if time.monotonic() - self._saved_at >= SECONDS_BETWEEN_SAVES:
            if self._delivery.settle(SETTLE_SECONDS):
                self.save_position()
            self._saved_at = time.monotonic()

    def save_position(self) -> None:
        """Keep how far the stream is; call it when everything is acknowledged."""
        path = position_file(self._settings)
        try:
            save_position(path, self._simulation, self._reached)
        except OSError as error:  # Kafka knows it, too
            log.warning("%s: %s; free some space: after Kafka's retention only this file has the position", path, error)


def position_file(settings: Settings) -> Path:
    """Where the simulator's position is kept."""
    return settings.state_dir / "position.json"


def find_start(settings: Settings, simulation: Simulation, in_kafka: Resume) -> Resume:
    """Where the stream resumes, by Kafka and by the file; a line in the log where they disagree.

    Raises:
        UserError: the file can't be used.
    """
    saved = load_position(position_file(settings), simulation, in_kafka.partitions)
    resume = combine(in_kafka, saved)
    if lost := missing_in_kafka(in_kafka, saved):
        log.warning(
            "partitions %s of %s have none of the messages that were sent to them: retention deleted them, or the "
            "topic was deleted and made again; continuing after them. To send the history again: %s",
            lost,
            TRANSACTIONS,
            START_OVER,
        )
    return resume


def run_producer(settings: Settings, stop: threading.Event) -> None:
    """Connect, find where the stream resumes, send until `stop` is set, then deliver what is in flight.

    Raises:
        UserError: the broker or the registry does not answer, the settings don't fit this stack's history, or the
            client doesn't know what became of some messages.
    """
    partitions = require_topics(wait_for_broker(settings), TRANSACTIONS, LABELS, SCORED, DEAD_LETTERS)
    if settings.simulator == "off":
        # Stay up, so that the stack is the same with and without simulated traffic.
        log.info("SIMULATOR=off: no simulated traffic; send your own with make replay FILE=…")
        metrics.RUNNING.set(1)
        stop.wait()
        return
    new = new_simulation(settings, now_ms=int(time.time() * 1000))
    simulation = load_or_start(settings.state_dir / "simulation.json", new)
    registry = SchemaRegistry(settings.schema_registry_url)
    encoders = registry.within(settings.connect_timeout_seconds, lambda: load_encoders(settings, registry))
    resume = find_start(settings, simulation, find_resume(settings, registry, partitions[TRANSACTIONS]))
    delivery = Delivery(settings)
    simulator = Simulator(
        settings,
        simulation=simulation,
        encoders=encoders,
        resume=resume,
        delivery=delivery,
        stop=stop,
        declined=follow_declines(settings, registry, stop) if settings.sim_declines == "on" else None,
    )
    history_days = simulation.live_day - simulation.start_day
    metrics.BACKFILL_TOTAL.set(history_days)
    metrics.BACKFILL_SENT.set(min(history_days, resume.first_day(simulation.start_day) - simulation.start_day))
    metrics.RUNNING.set(1)
    log.info("running", extra={**vars(simulation), "resumed": resume.found_anything})
    try:
        simulator.run()
        delivery.flush()
        simulator.save_position()
    finally:
        log.info("stopped", extra={**vars(delivery.counts), "delivered": delivery.delivered})

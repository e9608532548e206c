"""What decisions do to the simulated frauds (SIM_DECLINES=on): a declined fraud ends its scenario with that card.

Upstream is `transactions.scored`, read from the moment the producer starts; downstream is the live stream, which then
lacks the fraud's later payments and their labels. Legitimate payments, the history and the burst are never left out.
"""

import json
import logging
import threading
from collections import OrderedDict, deque
from dataclasses import asdict
from pathlib import Path

import numpy as np
from confluent_kafka import OFFSET_END, TopicPartition
from fraud_common.avro import Decoder
from fraud_common.errors import SerializationError, Stopping, UserError
from fraud_common.kafka import make_reader, readable
from fraud_common.schema_registry import SchemaRegistry
from fraud_common.topics import SCORED

from producer import metrics
from producer.settings import Settings
from producer.simulation import Simulation, read_simulation, write_atomically
from producer.simulator.fraud import CAMPAIGN_DAYS
from producer.simulator.payments import DAY_MS, LEGITIMATE, Payments
from producer.simulator.stream import POSITIONS_A_DAY, Labels, transaction_id

log = logging.getLogger("declines")

DECLINE = "decline"
FILE = "declines.json"
# Frauds whose decision is awaited, decisions that wait for the stream, and campaigns that ended; the oldest give way.
# In the default world, 5,000 frauds happen in the longest campaign.
MOST_KEPT = 100_000
# A label comes at most 30 days after its payment, and a producer may resume some days back.
KEPT_DAYS = 60
_MESSAGES = 500
# What is ended: the payments of a scenario with a card, given as the indexes of the cardholder and the scenario.
Ended = OrderedDict[tuple[int, int], int]


class Declines:
    """Which frauds are over, and which payments were not sent for it. The second is kept on the volume."""

    def __init__(self, path: Path, simulation: Simulation, ids: deque[str]) -> None:
        """Read what earlier runs left out.

        Args:
            path: the file; its folder must exist.
            simulation: the history that this stack has; a file of another one is ignored.
            ids: the ids of declined payments, which another thread adds.

        Raises:
            UserError: the file can't be read.
        """
        self._path = path
        self._simulation = simulation
        self._ids = ids
        self._sent: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # id -> cardholder, scenario, event time
        self._ended: Ended = OrderedDict()  # -> the event time until which it is
        self._left_out: set[int] = set()  # positions
        self._load()

    def choose(self, payments: Payments, positions: np.ndarray) -> np.ndarray:
        """Mask of the live payments that are sent; those that are not are written to the file first."""
        self._end_declined()
        goes_out = np.ones(len(payments), dtype=bool)
        for row in np.flatnonzero(payments.scenario != LEGITIMATE).tolist():
            position, event_ms = int(positions[row]), int(payments.event_ms[row])
            campaign = int(payments.user[row]), int(payments.scenario[row])
            if event_ms <= self._ended.get(campaign, -1) or position in self._left_out:
                goes_out[row] = False
            else:
                _keep(self._sent, transaction_id(position), (*campaign, event_ms))
        left_out = positions[~goes_out].tolist()
        if not self._left_out.issuperset(left_out):
            self._left_out.update(left_out)
            self._save(int(positions[-1]) // POSITIONS_A_DAY)
            metrics.FRAUDS_ENDED.inc(len(left_out))
        return goes_out

    def labels_of_sent(self, labels: Labels) -> Labels:
        """Without those of payments that were left out."""
        if not self._left_out:
            return labels
        return labels.take(~np.isin(labels.position, np.fromiter(self._left_out, np.int64)))

    def _end_declined(self) -> None:
        while self._ids:
            if (fraud := self._sent.pop(self._ids.popleft(), None)) is not None:
                user, scenario, event_ms = fraud
                _keep(self._ended, (user, scenario), event_ms + CAMPAIGN_DAYS * DAY_MS)

    def _load(self) -> None:
        if not self._path.exists():
            return
        try:
            content = json.loads(self._path.read_text())
            if read_simulation(content["simulation"]) == self._simulation:
                self._left_out = {int(position) for position in content["left_out"]}
                self._ended = OrderedDict(((user, kind), until) for user, kind, until in content["ended"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self._path}: {error!r}; it says which payments were not sent. Without it their labels are sent: "
                f"docker compose run --rm --no-deps producer rm -f {self._path}"
            ) from None

    def _save(self, day: int) -> None:
        self._left_out = {each for each in self._left_out if each >= (day - KEPT_DAYS) * POSITIONS_A_DAY}
        content = {
            "simulation": asdict(self._simulation),
            "ended": [[*campaign, until] for campaign, until in self._ended.items()],
            "left_out": sorted(self._left_out),
        }
        try:
            write_atomically(self._path, content)
        except OSError as error:
            log.warning("%s: %s; free some space: after a restart labels of unsent payments follow", self._path, error)


def _keep[K, V](kept: OrderedDict[K, V], key: K, value: V) -> None:
    """Add, as the newest; of too many the oldest is forgotten."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_KEPT:
        kept.popitem(last=False)


def follow_declines(settings: Settings, registry: SchemaRegistry, stop: threading.Event) -> deque[str]:
    """Start a thread that reads decisions from now on; returns the ids of declined payments, to which it adds.

    Raises:
        KafkaException: the broker does not know the topic.
    """
    ids: deque[str] = deque(maxlen=MOST_KEPT)
    consumer = make_reader(settings, **{"auto.offset.reset": "latest", "enable.partition.eof": False})
    partitions = consumer.list_topics(SCORED, timeout=10).topics[SCORED].partitions
    consumer.assign([TopicPartition(SCORED, partition, OFFSET_END) for partition in partitions])
    decoder = Decoder(registry)

    def follow() -> None:
        while not stop.is_set():
            for message in readable(consumer.consume(_MESSAGES, 0.5)):
                if name := declined_id(decoder, message.value(), stop):
                    ids.append(name)
        consumer.close()

    def run() -> None:
        try:
            follow()
        except Stopping:
            consumer.close()
        except UserError as error:
            log.error("%s; from here on no decision ends a fraud, until the producer starts again", error)

    threading.Thread(target=run, name="declines", daemon=True).start()
    return ids


def declined_id(decoder: Decoder, value: bytes | None, stop: threading.Event) -> str | None:
    """The id of the payment that a scored payment says was declined; None if it was not, or is unreadable.

    Raises:
        Stopping: the event was set while the registry did not answer.
    """
    try:
        scored = decoder.decode_when_answered(value, stop)
    except SerializationError as error:
        log.warning("%s: %s", SCORED, error)
        return None
    return str(scored["transaction_id"]) if scored.get("decision") == DECLINE else None

"""A wave of card testing, for drills (FRAUD_BURST). Its payments are extra: the stream itself does not change.

Every ten minutes of event time another cardholder's card is tested, at a few online shops and from one unknown device
(in a world without devices: at a few terminals).
The labels come an hour after the payments, so that no model learns the payments as legitimate; a killed producer loses
the labels of the last hour.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from producer.simulator.merchants import WEB
from producer.simulator.payments import CARD_TESTING, HOUR_MS, MINUTE_MS, SCENARIOS, Payments
from producer.simulator.world import World

Record = dict[str, Any]

TURN_MS = 10 * MINUTE_MS
REPORT_DELAY_MS = HOUR_MS
PREFIX = "burst-"


class Burst:
    """The extra payments of one seed."""

    def __init__(self, seed: int, share: float, world: World) -> None:
        self._seed = seed
        self._share = share
        self._world = world
        self._turn = lru_cache(maxsize=16)(self._make_turn)

    def _make_turn(self, turn: int) -> tuple[int, np.ndarray, int]:
        """The cardholder (index), the shops and the device of one turn of ten minutes."""
        rng = np.random.default_rng([self._seed, 5, turn])
        shops = rng.choice(self._world.card_testing_at, int(rng.integers(1, 5)))
        user, device = int(rng.integers(len(self._world.users))), int(rng.integers(0, 2**63))
        return user, shops, device if self._world.has_devices else 0

    def beside(self, payments: Payments, positions: np.ndarray) -> tuple[Payments, np.ndarray]:
        """Extra payments at the times of about `share` of these, and the positions of those."""
        rng = np.random.default_rng([self._seed, 6, int(positions[0])])
        chosen = np.flatnonzero(rng.random(len(payments)) < self._share)
        event_ms = payments.event_ms[chosen]
        turns = [self._turn(moment // TURN_MS) for moment in event_ms.tolist()]
        n = len(chosen)
        extra = Payments(
            user=np.array([user for user, _, _ in turns], np.int64),
            merchant=np.array([rng.choice(shops) for _, shops, _ in turns], np.int64),
            cents=np.clip(rng.lognormal(5.5, 0.7, n).astype(np.int64), 50, 2_500),
            event_ms=event_ms,
            device=np.array([device for _, _, device in turns], np.uint64),
            device_type=np.full(n, WEB),
            scenario=np.full(n, CARD_TESTING),
        )
        return extra, positions[chosen]


def own_id(record: Record) -> Record:
    """The record of an extra payment, under an id of its own: its position is that of a payment of the stream."""
    return record | {"transaction_id": PREFIX + record["transaction_id"]}


def label_of(record: Record) -> Record:
    """The `FraudLabel` of an extra payment."""
    return {
        "transaction_id": record["transaction_id"],
        "user_id": record["user_id"],
        "is_fraud": True,
        "fraud_type": SCENARIOS[CARD_TESTING],
        "event_time": record["event_time"],
        "reported_at": record["event_time"] + REPORT_DELAY_MS,
    }

"""What the stream needs of a simulated world, whichever profile it is of."""

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from producer.simulator.payments import Payments

# How a stream is made. Its number is kept with the history: a change half-way would break both.
# 1: ids like u0001234 and m00001; a thief who pays online uses one of the victim's own devices.
# 2: ids like U1234 and M001; a thief who pays online uses a device of their own.
FIRST_SCHEME = 1
SCHEME = 2


@dataclass(frozen=True)
class Shop:
    """What every payment at a merchant says about it; country and city are empty where the world has none."""

    merchant_id: str
    name: str
    city: str
    country: str
    currency: str


class World(Protocol):
    """Users, merchants, and all payments of a day. A day is made from the seed and the day alone."""

    users: list[str]  # their ids
    homes: list[str]  # the country of each
    shops: list[Shop]
    has_devices: bool
    card_testing_at: np.ndarray  # the merchants at which FRAUD_BURST tests cards

    def payments_of(self, day: int, rng: np.random.Generator) -> Payments:
        """All payments whose event time is on `day` (days since 1970, UTC), in no particular order."""
        ...


def partitions_of(users: list[str], count: int) -> np.ndarray:
    """The partition of each user: CRC-32 of the key, which is librdkafka's own default."""
    return np.array([zlib.crc32(user.encode()) % count for user in users], np.int64)

"""The cardholders and their habits, drawn once from the seed: everything in which one person differs from another."""

from dataclasses import dataclass

import numpy as np

from producer.simulator.merchants import COUNTRIES, HOME_COUNTRIES, MOBILE, WEB, Merchants
from producer.simulator.world import FIRST_SCHEME, SCHEME

FAVOURITES = 12

# Weight of each hour of the day (UTC) for three kinds of people: regular, evening, night.
_HOURS = np.array(
    [
        [1, 1, 1, 1, 1, 2, 5, 9, 11, 10, 11, 13, 15, 13, 11, 11, 13, 16, 16, 12, 8, 5, 3, 2],
        [2, 1, 1, 1, 1, 1, 2, 4, 5, 6, 7, 9, 11, 9, 8, 9, 11, 14, 17, 18, 16, 13, 9, 5],
        [9, 8, 7, 5, 3, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 6, 7, 8, 10, 11, 12, 13, 13, 12],
    ],
    float,
)
HOURS_CUMULATIVE = np.cumsum(_HOURS, axis=1) / _HOURS.sum(axis=1, keepdims=True)
# Monday to Sunday.
WEEKDAY = np.array([0.92, 0.93, 0.96, 1.0, 1.16, 1.18, 0.85])


@dataclass(frozen=True)
class Cardholders:
    """All cardholders, as columns: position i of each is cardholder i."""

    ids: list[str]
    home: np.ndarray  # int, index into COUNTRIES
    rate: np.ndarray  # payments a day
    level: np.ndarray  # mean of log(amount)
    kind: np.ndarray  # int, row of the hour profiles
    favourites: np.ndarray  # (n, FAVOURITES) merchants, most used first
    devices: np.ndarray  # how many phones and computers, 1 to 3
    device_type: np.ndarray  # (n, 3) MOBILE or WEB
    device_days: np.ndarray  # how long one device is kept
    trip_every: np.ndarray  # days between trips
    trip_days: np.ndarray  # length of a trip
    phase: np.ndarray  # where in these cycles the cardholder is on day 0


def build_cardholders(count: int, seed: int, merchants: Merchants, scheme: int = SCHEME) -> Cardholders:
    """Draw `count` cardholders from the seed."""
    rng = np.random.default_rng([seed, 0])
    shares = np.array([country[2] for country in COUNTRIES[:HOME_COUNTRIES]])
    home = rng.choice(HOME_COUNTRIES, count, p=shares / shares.sum())
    favourites = np.stack([merchants.pick(home, rng) for _ in range(FAVOURITES)], axis=1)
    return Cardholders(
        ids=[f"u{i:07d}" if scheme == FIRST_SCHEME else f"U{i:04d}" for i in range(count)],
        home=home,
        rate=rng.gamma(2.2, 2.0 / 2.2, count) + 0.05,
        level=rng.normal(3.2, 0.6, count),
        kind=rng.choice(3, count, p=[0.62, 0.28, 0.10]),
        favourites=favourites,
        devices=rng.choice([1, 2, 3], count, p=[0.45, 0.4, 0.15]),
        device_type=np.where(rng.random((count, 3)) < 0.65, MOBILE, WEB),
        device_days=rng.integers(250, 1_200, count),
        trip_every=rng.integers(40, 400, count),
        trip_days=rng.integers(3, 15, count),
        phase=rng.integers(0, 100_000, count),
    )


def hash64(*parts: np.ndarray | int) -> np.ndarray:
    """A well-mixed 64-bit number from integers (splitmix64), for ids and choices without a stored table."""
    value: np.ndarray = np.asarray(np.uint64(0x9E3779B97F4A7C15))
    with np.errstate(over="ignore"):
        for part in parts:
            value = (value ^ np.asarray(part).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            value = value ^ (value >> np.uint64(31))
    return value


def country_of_stay(people: Cardholders, user: np.ndarray, day: int) -> np.ndarray:
    """Where each user is on a day: at home, or for some days of every trip cycle somewhere else."""
    cycle, position = np.divmod(day + people.phase[user], people.trip_every[user])
    destination = (hash64(user, cycle, 11) % np.uint64(len(COUNTRIES))).astype(np.int64)
    return np.where(position < people.trip_days[user], destination, people.home[user])


def own_device(people: Cardholders, user: np.ndarray, slot: np.ndarray, day: int) -> np.ndarray:
    """The id of a user's device; a device is replaced after `device_days`, and its successor is a new id."""
    generation = (day + people.phase[user] + slot * 97) // people.device_days[user]
    return hash64(user, slot, generation, 23)

"""The profile `terminal`: customers pay at terminals nearby, and there are no devices and no countries.

Fraud is bound to a terminal for weeks, to a customer for days, or is one very high amount. The idea is that of the
simulated data in the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi, 2022, chapter 3); the world is
our own.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from producer.simulator.merchants import POS
from producer.simulator.payments import (
    COMPROMISED_TERMINAL,
    DAY_MS,
    HIGH_AMOUNT,
    HOUR_MS,
    LEGITIMATE,
    MULTIPLIED_SPENDING,
    Payments,
    to_cents,
)
from producer.simulator.world import Shop

USERS_PER_TERMINAL = 4
# How far, in terminals along the street, a customer usually goes.
REACH = 8.0
ANYWHERE_SHARE = 0.08
# Legitimate amounts as high as those of a customer whose spending multiplies.
BIG_PURCHASE_SHARE = 0.001

# Of all terminals and customers, the share whose fraud begins on a day.
COMPROMISED_A_DAY = 0.0001
MULTIPLIED_A_DAY = 0.0002
# How long it lasts: at least, and less than, so many days.
COMPROMISED_DAYS = (28, 85)
MULTIPLIED_DAYS = (8, 22)
# Of the payments at a compromised terminal, and of a customer whose spending multiplies, these are fraud.
COMPROMISED_SHARE = 0.95
MULTIPLIED_SHARE = 0.5
HIGH_AMOUNT_SHARE = 0.0003

_NOON_MS, _SPREAD_MS = 13 * HOUR_MS, 4.5 * HOUR_MS


@dataclass(frozen=True)
class Customers:
    """All customers, as columns: position i of each is customer i."""

    rate: np.ndarray  # payments a day
    level: np.ndarray  # mean of log(amount)
    spread: np.ndarray  # standard deviation of log(amount)
    terminal: np.ndarray  # int, the one next to home


@dataclass(frozen=True)
class Outbreak:
    """The terminals and customers whose fraud begins on one day."""

    terminals: np.ndarray
    terminals_until: np.ndarray  # the first day on which each is clean again
    customers: np.ndarray
    customers_until: np.ndarray
    factor: np.ndarray  # by which each customer's spending multiplies


class TerminalWorld:
    """The world of one seed. It has no first day: outbreaks that began before the stream are in it from its start."""

    has_devices = False

    def __init__(self, seed: int, users: int) -> None:
        rng = np.random.default_rng([seed, 7])
        count = max(1, users // USERS_PER_TERMINAL)
        self._seed = seed
        self.customers = Customers(
            rate=rng.gamma(2.2, 2.0 / 2.2, users) + 0.05,
            level=rng.normal(3.4, 0.6, users),
            spread=rng.uniform(0.2, 0.4, users),
            # More people live at one end of the street.
            terminal=(rng.random(users) ** 1.25 * count).astype(np.int64),
        )
        self.users = [f"U{number:04d}" for number in range(users)]
        self.homes = [""] * users
        self.shops = [Shop(f"T{number:03d}", f"Terminal {number}", "", "", "EUR") for number in range(count)]
        self.card_testing_at = np.arange(count)
        self._outbreak = lru_cache(maxsize=COMPROMISED_DAYS[1] + 3)(self._make_outbreak)

    def payments_of(self, day: int, rng: np.random.Generator) -> Payments:
        """As in `World`."""
        people, outbreaks = self.customers, [self._outbreak(d) for d in range(day - COMPROMISED_DAYS[1], day + 1)]
        user = np.repeat(np.arange(len(self.users)), rng.poisson(people.rate))
        n = len(user)
        terminal = self._choose_terminal(user, rng)
        log_amount = people.level[user] + people.spread[user] * rng.standard_normal(n)
        log_amount += (rng.random(n) < BIG_PURCHASE_SHARE) * rng.normal(1.3, 0.4, n)

        factor = self._factors(day, outbreaks)[user]
        multiplied = (factor > 1) & (rng.random(n) < MULTIPLIED_SHARE)
        high = rng.random(n) < HIGH_AMOUNT_SHARE
        compromised = self._compromised(day, outbreaks)[terminal] & (rng.random(n) < COMPROMISED_SHARE)
        log_amount += np.where(multiplied, np.log(factor), 0.0) + high * rng.normal(3.5, 0.4, n)
        return Payments(
            user=user,
            merchant=terminal,
            cents=to_cents(log_amount),
            event_ms=day * DAY_MS + rng.normal(_NOON_MS, _SPREAD_MS, n).astype(np.int64) % DAY_MS,
            device=np.zeros(n, np.uint64),
            device_type=np.full(n, POS),
            scenario=np.select(
                [high, multiplied, compromised], [HIGH_AMOUNT, MULTIPLIED_SPENDING, COMPROMISED_TERMINAL], LEGITIMATE
            ),
        )

    def _choose_terminal(self, user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        n, count = len(user), len(self.shops)
        near = self.customers.terminal[user] + np.rint(rng.normal(0, REACH, n)).astype(np.int64)
        return np.where(rng.random(n) < ANYWHERE_SHARE, rng.integers(0, count, n), near % count)

    def _make_outbreak(self, day: int) -> Outbreak:
        rng = np.random.default_rng([self._seed, 8, day])
        terminals = rng.integers(0, len(self.shops), _due(COMPROMISED_A_DAY * len(self.shops), day))
        customers = rng.integers(0, len(self.users), _due(MULTIPLIED_A_DAY * len(self.users), day))
        return Outbreak(
            terminals,
            day + rng.integers(*COMPROMISED_DAYS, len(terminals)),
            customers,
            day + rng.integers(*MULTIPLIED_DAYS, len(customers)),
            rng.uniform(5.0, 9.0, len(customers)),
        )

    def _compromised(self, day: int, outbreaks: list[Outbreak]) -> np.ndarray:
        """Mask of the terminals that are compromised on a day."""
        mask = np.zeros(len(self.shops), bool)
        for outbreak in outbreaks:
            mask[outbreak.terminals[outbreak.terminals_until > day]] = True
        return mask

    def _factors(self, day: int, outbreaks: list[Outbreak]) -> np.ndarray:
        """By how much each customer's spending multiplies on a day; 1 is as usual."""
        factors = np.ones(len(self.users))
        for outbreak in outbreaks:
            now = outbreak.customers_until > day
            factors[outbreak.customers[now]] = outbreak.factor[now]
        return factors


def _due(rate: float, day: int) -> int:
    """How many of `rate` a day fall on this day: evenly spread, so that small worlds have their share of fraud, too."""
    return int((day + 1) * rate) - int(day * rate)

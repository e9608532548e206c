"""One day of legitimate payments.

Cardholders also do what a fraudster does: they travel, buy something big, change phones, make many small payments in a
row and order abroad. So no single rule separates the two.
"""

import numpy as np

from producer.simulator.cardholders import (
    FAVOURITES,
    HOURS_CUMULATIVE,
    WEEKDAY,
    Cardholders,
    country_of_stay,
    own_device,
)
from producer.simulator.merchants import ATM, CATEGORIES, CATEGORY_INDEX, POS, Merchants
from producer.simulator.payments import DAY_MS, HOUR_MS, LEGITIMATE, MINUTE_MS, Payments, to_cents

AMOUNT = np.array([c.amount for c in CATEGORIES])
SPREAD = np.array([c.spread for c in CATEGORIES])
ONLINE = np.array([c.online for c in CATEGORIES])

FAVOURITE_SHARE = 0.72
ORDER_ABROAD_SHARE = 0.05
BIG_PURCHASE_SHARE = 0.015
# A payment that starts a series of small ones: parking, transit, games, a vending machine.
SERIES_SHARE = 0.006
# The slot of the card itself, beside the slots 0 to 2 of phones and computers.
CARD_SLOT = 9


def legitimate_day(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """All legitimate payments whose event time is on `day` (days since 1970, UTC), in no particular order."""
    weekday = WEEKDAY[(day + 3) % 7]  # 1970-01-01 was a Thursday
    user = np.repeat(np.arange(len(people.ids)), rng.poisson(people.rate * weekday))
    first = _payments(people, merchants, user, day, _times(people, user, day, rng), rng)
    return Payments.concat([first, _small_series(first, merchants, day, rng)])


def _times(people: Cardholders, user: np.ndarray, day: int, rng: np.random.Generator) -> np.ndarray:
    hour = np.empty(len(user), np.int64)
    draw = rng.random(len(user))
    for kind, cumulative in enumerate(HOURS_CUMULATIVE):
        those = np.flatnonzero(people.kind[user] == kind)
        hour[those] = np.searchsorted(cumulative, draw[those])
    return day * DAY_MS + np.minimum(hour, 23) * HOUR_MS + rng.integers(0, HOUR_MS, len(user))


def _payments(
    people: Cardholders,
    merchants: Merchants,
    user: np.ndarray,
    day: int,
    event_ms: np.ndarray,
    rng: np.random.Generator,
) -> Payments:
    n = len(user)
    merchant = _choose_merchant(people, merchants, user, day, rng)
    category = merchants.category[merchant]
    log_amount = people.level[user] + AMOUNT[category] + SPREAD[category] * rng.standard_normal(n)
    big = rng.random(n) < BIG_PURCHASE_SHARE
    log_amount += big * rng.normal(1.7, 0.5, n)
    device, device_type = choose_device(people, user, category, day, rng)
    return Payments(user, merchant, to_cents(log_amount), event_ms, device, device_type, np.full(n, LEGITIMATE))


def _choose_merchant(
    people: Cardholders, merchants: Merchants, user: np.ndarray, day: int, rng: np.random.Generator
) -> np.ndarray:
    n = len(user)
    stay = country_of_stay(people, user, day)
    draw = rng.random(n)
    favourite = (draw < FAVOURITE_SHARE) & (stay == people.home[user])
    abroad = ~favourite & (draw > 1 - ORDER_ABROAD_SHARE)
    rank = np.minimum(rng.geometric(0.25, n) - 1, FAVOURITES - 1)
    merchant = merchants.pick(stay, rng)
    merchant[favourite] = people.favourites[user[favourite], rank[favourite]]
    merchant[abroad] = rng.choice(merchants.online_everywhere, int(abroad.sum()))
    return merchant


def choose_device(
    people: Cardholders, user: np.ndarray, category: np.ndarray, day: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the user's own devices pays, and its type: the card if it is present, else a phone or computer."""
    online = rng.random(len(user)) < ONLINE[category]
    slot = rng.integers(0, 3, len(user)) % people.devices[user]
    at_counter = np.where(category == CATEGORY_INDEX["cash"], ATM, POS)
    device_type = np.where(online, people.device_type[user, slot], at_counter)
    return own_device(people, user, np.where(online, slot, CARD_SLOT), day), device_type


def _small_series(payments: Payments, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    starts = np.flatnonzero(rng.random(len(payments)) < SERIES_SHARE)
    again = np.repeat(starts, rng.integers(2, 7, len(starts)))
    series = payments.take(again)
    small = rng.choice(merchants.online_everywhere, len(starts))
    end_of_day = (day + 1) * DAY_MS - 1
    return Payments(
        user=series.user,
        merchant=np.repeat(small, np.unique(again, return_counts=True)[1]) if len(starts) else series.merchant,
        cents=np.clip(rng.lognormal(5.7, 0.6, len(series)).astype(np.int64), 80, 3_000),
        event_ms=np.minimum(series.event_ms + rng.integers(MINUTE_MS, 40 * MINUTE_MS, len(series)), end_of_day),
        device=series.device,
        device_type=series.device_type,
        scenario=series.scenario,
    )

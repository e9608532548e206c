"""Fraud, as campaigns: each starts on one day, has one scenario, and may last days or weeks."""

from dataclasses import replace

import numpy as np

from producer.simulator.cardholders import Cardholders
from producer.simulator.legitimate import AMOUNT, SPREAD, choose_device
from producer.simulator.merchants import COUNTRIES, HOME_COUNTRIES, MOBILE, WEB, Merchants
from producer.simulator.payments import (
    ACCOUNT_TAKEOVER,
    CARD_TESTING,
    COMPROMISED_MERCHANT,
    DAY_MS,
    HIGH_AMOUNT,
    HOUR_MS,
    MINUTE_MS,
    STOLEN_CARD,
    Payments,
    to_cents,
)
from producer.simulator.world import FIRST_SCHEME

# The longest campaign: all fraud of a day comes from campaigns that started at most so many days before.
CAMPAIGN_DAYS = 22
# Campaigns that start on a day, for 20,000 cardholders.
CAMPAIGNS_A_DAY = {
    CARD_TESTING: 5.0,
    ACCOUNT_TAKEOVER: 13.0,
    COMPROMISED_MERCHANT: 1.0,
    STOLEN_CARD: 7.5,
    HIGH_AMOUNT: 28.0,
}


def campaigns_of(
    people: Cardholders, merchants: Merchants, day: int, scheme: int, rng: np.random.Generator
) -> Payments:
    """All payments, on this and the following days, of the fraud campaigns that start on `day`."""
    makers = {
        CARD_TESTING: _card_testing,
        ACCOUNT_TAKEOVER: _account_takeover,
        COMPROMISED_MERCHANT: _compromised_merchant,
        STOLEN_CARD: _stolen_card if scheme == FIRST_SCHEME else _stolen_card_and_other_device,
        HIGH_AMOUNT: _high_amount,
    }
    parts = [Payments.empty()]
    for scenario, rate in CAMPAIGNS_A_DAY.items():
        for _ in range(rng.poisson(rate * len(people.ids) / 20_000)):
            parts.append(makers[scenario](people, merchants, day, rng))
    return Payments.concat(parts)


def _start(day: int, rng: np.random.Generator) -> int:
    return day * DAY_MS + int(rng.integers(0, DAY_MS))


def _usual_amount(
    people: Cardholders, merchants: Merchants, user: np.ndarray, merchant: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    category = merchants.category[merchant]
    return people.level[user] + AMOUNT[category] + SPREAD[category] * rng.standard_normal(len(user))


def _stranger_device(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    device = np.full(n, rng.integers(0, 2**64, dtype=np.uint64))
    return device, np.full(n, MOBILE if rng.random() < 0.5 else WEB)


def _card_testing(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """A burst of small payments at a few online shops within minutes; half of the time larger ones some hours later."""
    tests = int(rng.integers(6, 20))
    larger = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
    n = tests + larger
    start = _start(day, rng)
    times = start + np.sort(rng.integers(0, rng.integers(6, 45) * MINUTE_MS, tests))
    later = start + HOUR_MS + rng.integers(0, 20 * HOUR_MS, larger)
    user = np.full(n, rng.integers(len(people.ids)))
    shops = rng.choice(merchants.online_everywhere, int(rng.integers(1, 5)))
    merchant = rng.choice(shops, n)
    merchant[tests:] = rng.choice(merchants.online_everywhere, larger)
    cents = np.clip(rng.lognormal(5.5, 0.7, n).astype(np.int64), 50, 2_500)
    cents[tests:] = to_cents(people.level[user[tests:]] + rng.normal(1.3, 0.6, larger))
    device, device_type = _stranger_device(n, rng)
    return Payments(
        user, merchant, cents, np.concatenate([times, later]), device, device_type, np.full(n, CARD_TESTING)
    )


def _account_takeover(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """A new device in another country, amounts above the cardholder's own, over hours to two days."""
    n = int(rng.integers(2, 9))
    user = np.full(n, rng.integers(len(people.ids)))
    country = np.full(n, rng.integers(len(COUNTRIES)))
    if country[0] == people.home[user[0]]:
        country = (country + 1) % len(COUNTRIES)
    merchant = merchants.pick(country, rng)
    log_amount = _usual_amount(people, merchants, user, merchant, rng) + rng.normal(0.8, 0.5, n)
    times = _start(day, rng) + rng.integers(0, int(rng.integers(2, 48)) * HOUR_MS, n)
    device, device_type = _stranger_device(n, rng)
    return Payments(user, merchant, to_cents(log_amount), times, device, device_type, np.full(n, ACCOUNT_TAKEOVER))


def _compromised_merchant(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """One shop leaks its customers' cards: many users, a few payments each, for two to three weeks."""
    merchant = int(rng.choice(np.concatenate(merchants.by_country[:HOME_COUNTRIES])))
    n = int(rng.integers(30, 90))
    days = int(rng.integers(12, CAMPAIGN_DAYS - 1))
    local = np.flatnonzero(people.home == merchants.country[merchant])
    user = rng.choice(local if len(local) else np.arange(len(people.ids)), n)
    shop = np.full(n, merchant)
    log_amount = _usual_amount(people, merchants, user, shop, rng) + rng.normal(0.3, 0.4, n)
    device, device_type = choose_device(people, user, merchants.category[shop], day, rng)
    times = day * DAY_MS + rng.integers(0, days * DAY_MS, n)
    return Payments(user, shop, to_cents(log_amount), times, device, device_type, np.full(n, COMPROMISED_MERCHANT))


def _stolen_card(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """The card itself is stolen and used near home: larger and more frequent payments for one to four days."""
    n = int(rng.integers(4, 14))
    user = np.full(n, rng.integers(len(people.ids)))
    merchant = merchants.pick(people.home[user], rng)
    log_amount = _usual_amount(people, merchants, user, merchant, rng) + rng.normal(0.7, 0.5, n)
    times = _start(day, rng) + rng.integers(0, int(rng.integers(12, 96)) * HOUR_MS, n)
    device, device_type = choose_device(people, user, merchants.category[merchant], day, rng)
    return Payments(user, merchant, to_cents(log_amount), times, device, device_type, np.full(n, STOLEN_CARD))


def _stolen_card_and_other_device(
    people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator
) -> Payments:
    """As above, and what the thief buys online comes from the thief's own device."""
    payments = _stolen_card(people, merchants, day, rng)
    online = np.isin(payments.device_type, (MOBILE, WEB))
    device, device_type = _stranger_device(len(payments), rng)
    return replace(
        payments,
        device=np.where(online, device, payments.device),
        device_type=np.where(online, device_type, payments.device_type),
    )


def _high_amount(people: Cardholders, merchants: Merchants, day: int, rng: np.random.Generator) -> Payments:
    """One payment far above what the cardholder usually spends."""
    user = rng.integers(len(people.ids), size=1)
    merchant = merchants.pick(people.home[user], rng)
    log_amount = _usual_amount(people, merchants, user, merchant, rng) + rng.normal(2.2, 0.5, 1)
    device, device_type = choose_device(people, user, merchants.category[merchant], day, rng)
    times = np.array([_start(day, rng)])
    return Payments(user, merchant, to_cents(log_amount), times, device, device_type, np.array([HIGH_AMOUNT]))

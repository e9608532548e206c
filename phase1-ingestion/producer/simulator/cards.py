"""The profile `cards`: cardholders with habits, merchants in 16 countries, and fraud in five kinds of campaigns."""

from functools import lru_cache

import numpy as np

from producer.simulator.cardholders import build_cardholders
from producer.simulator.fraud import CAMPAIGN_DAYS, campaigns_of
from producer.simulator.legitimate import legitimate_day
from producer.simulator.merchants import COUNTRIES, build_merchants
from producer.simulator.payments import DAY_MS, Payments
from producer.simulator.world import Shop


class CardWorld:
    """The world of one seed. No campaign starts before `start_day` (days since 1970, UTC)."""

    has_devices = True

    def __init__(self, seed: int, users: int, start_day: int, scheme: int) -> None:
        self._seed = seed
        self._start_day = start_day
        self._scheme = scheme
        self.merchants = build_merchants(scheme)
        self.people = build_cardholders(users, seed, self.merchants, scheme)
        self.users = self.people.ids
        self.homes = [COUNTRIES[code][0] for code in self.people.home.tolist()]
        self.shops = [
            Shop(merchant, name, city, COUNTRIES[code][0], COUNTRIES[code][1])
            for merchant, name, city, code in zip(
                self.merchants.ids,
                self.merchants.names,
                self.merchants.cities,
                self.merchants.country.tolist(),
                strict=True,
            )
        ]
        self.card_testing_at = self.merchants.online_everywhere
        # A payment may arrive two days late, a campaign may last three weeks.
        self._campaigns = lru_cache(maxsize=CAMPAIGN_DAYS + 3)(self._make_campaigns)

    def payments_of(self, day: int, rng: np.random.Generator) -> Payments:
        """As in `World`."""
        campaigns = Payments.concat([self._campaigns(start) for start in range(day - CAMPAIGN_DAYS, day + 1)])
        legitimate = legitimate_day(self.people, self.merchants, day, rng)
        return Payments.concat([legitimate, campaigns.take(campaigns.event_ms // DAY_MS == day)])

    def _make_campaigns(self, day: int) -> Payments:
        if day < self._start_day:
            return Payments.empty()
        rng = np.random.default_rng([self._seed, 1, day])
        return campaigns_of(self.people, self.merchants, day, self._scheme, rng)

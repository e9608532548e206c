"""The merchants of the simulated world: the same for every seed, so that one reference table fits all runs."""

from dataclasses import dataclass

import numpy as np

from producer.simulator.world import FIRST_SCHEME, SCHEME

MERCHANT_COUNT = 2_000
_MERCHANT_SEED = 7

# Device types in the order of the schema's enum.
MOBILE, WEB, ATM, POS = range(4)


@dataclass(frozen=True)
class Category:
    """What one kind of shop is like.

    `amount` and `spread` are the mean and the standard deviation of log(amount) against the cardholder's own level.
    """

    name: str
    share: float
    amount: float
    spread: float
    online: float
    risk: str


CATEGORIES = (
    Category("groceries", 0.22, 0.0, 0.55, 0.05, "low"),
    Category("restaurants", 0.16, -0.1, 0.5, 0.03, "low"),
    Category("fuel", 0.08, 0.35, 0.3, 0.0, "low"),
    Category("transport", 0.10, -1.2, 0.6, 0.35, "low"),
    Category("fashion", 0.09, 0.5, 0.6, 0.5, "medium"),
    Category("electronics", 0.05, 1.2, 0.8, 0.6, "high"),
    Category("travel", 0.03, 1.8, 0.7, 0.8, "medium"),
    Category("digital_goods", 0.09, -1.1, 0.8, 1.0, "high"),
    Category("gaming", 0.03, -1.0, 0.9, 1.0, "high"),
    Category("pharmacy", 0.06, -0.3, 0.5, 0.1, "low"),
    Category("home", 0.04, 0.8, 0.7, 0.4, "low"),
    Category("entertainment", 0.03, -0.2, 0.5, 0.5, "medium"),
    Category("cash", 0.015, 0.9, 0.4, 0.0, "medium"),
    Category("jewellery", 0.005, 1.8, 0.8, 0.3, "high"),
)
CATEGORY_INDEX = {category.name: index for index, category in enumerate(CATEGORIES)}

# Country, currency, share of merchants, cities. The first eight are where cardholders live.
COUNTRIES = (
    ("DE", "EUR", 0.22, ("Berlin", "Hamburg", "Munich", "Cologne")),
    ("FR", "EUR", 0.15, ("Paris", "Lyon", "Marseille")),
    ("NL", "EUR", 0.10, ("Amsterdam", "Rotterdam", "Utrecht")),
    ("ES", "EUR", 0.10, ("Madrid", "Barcelona", "Valencia")),
    ("IT", "EUR", 0.10, ("Rome", "Milan", "Naples")),
    ("GB", "GBP", 0.10, ("London", "Manchester", "Leeds")),
    ("PL", "PLN", 0.04, ("Warsaw", "Krakow", "Gdansk")),
    ("AT", "EUR", 0.04, ("Vienna", "Graz", "Linz")),
    ("US", "USD", 0.05, ("New York", "Chicago", "Austin")),
    ("TR", "TRY", 0.02, ("Istanbul", "Izmir", "Antalya")),
    ("TH", "THB", 0.015, ("Bangkok", "Phuket")),
    ("BR", "BRL", 0.015, ("Sao Paulo", "Recife")),
    ("AE", "AED", 0.015, ("Dubai", "Abu Dhabi")),
    ("RO", "RON", 0.015, ("Bucharest", "Cluj")),
    ("NG", "NGN", 0.01, ("Lagos", "Abuja")),
    ("CN", "CNY", 0.01, ("Shanghai", "Shenzhen")),
)
HOME_COUNTRIES = 8
COUNTRY_CODES = tuple(country[0] for country in COUNTRIES)

_WORDS = (
    "Blue",
    "Old Town",
    "Central",
    "North",
    "Garden",
    "River",
    "Star",
    "Union",
    "Royal",
    "Green",
    "Prime",
    "Corner",
)


@dataclass(frozen=True)
class Merchants:
    """All merchants, as columns: position i of each is merchant i."""

    ids: list[str]
    names: list[str]
    cities: list[str]
    category: np.ndarray  # int, index into CATEGORIES
    country: np.ndarray  # int, index into COUNTRIES
    by_country: tuple[np.ndarray, ...]  # merchants of each country
    popularity: tuple[np.ndarray, ...]  # their cumulative popularity, ending at 1
    online_everywhere: np.ndarray  # merchants that sell online to the whole world

    def pick(self, country: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One merchant by popularity in each of the given countries (shape (n,) to shape (n,))."""
        chosen = np.empty(len(country), np.int64)
        draw = rng.random(len(country))
        for code in range(len(COUNTRIES)):
            here = np.flatnonzero(country == code)
            chosen[here] = self.by_country[code][np.searchsorted(self.popularity[code], draw[here])]
        return chosen


def build_merchants(scheme: int = SCHEME) -> Merchants:
    """The fixed world of merchants; popularity within a country falls as 1/rank. Schemes differ in the ids only."""
    rng = np.random.default_rng(_MERCHANT_SEED)
    shares = np.array([country[2] for country in COUNTRIES])
    country = rng.choice(len(COUNTRIES), MERCHANT_COUNT, p=shares / shares.sum())
    category = rng.choice(len(CATEGORIES), MERCHANT_COUNT, p=[c.share for c in CATEGORIES])
    word = rng.integers(len(_WORDS), size=MERCHANT_COUNT)
    city = rng.random(MERCHANT_COUNT)
    cities = [COUNTRIES[c][3][int(x * len(COUNTRIES[c][3]))] for c, x in zip(country, city, strict=True)]
    by_country = tuple(np.flatnonzero(country == code) for code in range(len(COUNTRIES)))
    popularity = tuple(np.cumsum(1 / np.arange(3, len(m) + 3)) for m in by_country)
    online = np.array([c.online for c in CATEGORIES])[category]
    return Merchants(
        ids=[f"m{i:05d}" if scheme == FIRST_SCHEME else f"M{i:03d}" for i in range(MERCHANT_COUNT)],
        names=[
            f"{_WORDS[w]} {CATEGORIES[c].name.replace('_', ' ').title()} {i}"
            for i, (w, c) in enumerate(zip(word, category, strict=True))
        ],
        cities=cities,
        category=category,
        country=country,
        by_country=by_country,
        popularity=tuple(p / p[-1] for p in popularity),
        online_everywhere=np.flatnonzero(online >= 0.5),
    )

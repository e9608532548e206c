"""The seed of dbt, `merchants.csv`, has the simulator's merchants, under the ids of all stacks that may read it."""

import csv
from pathlib import Path

import pytest
from producer.simulator.merchants import CATEGORIES, COUNTRIES, build_merchants
from producer.simulator.world import FIRST_SCHEME, SCHEME

SEED = Path(__file__).parents[3] / "phase3-transforms/dbt_project/seeds/merchants.csv"
COLUMNS = ("merchant_id", "merchant_name", "category", "category_risk", "country", "city")


def rows_of(scheme: int) -> list[tuple[str, ...]]:
    """The seed's rows for the merchants of a scheme."""
    merchants = build_merchants(scheme)
    places = zip(merchants.ids, merchants.names, merchants.category, merchants.country, merchants.cities, strict=True)
    return [
        (merchant, name, CATEGORIES[category].name, CATEGORIES[category].risk, COUNTRIES[country][0], city)
        for merchant, name, category, country, city in places
    ]


@pytest.mark.parametrize("scheme", [FIRST_SCHEME, SCHEME])
def test_the_seed_has_every_merchant(scheme: int) -> None:
    with SEED.open(newline="") as file:
        header, *rows = map(tuple, csv.reader(file))
    assert header == COLUMNS
    assert set(rows_of(scheme)) <= set(rows)

"""Exchange rates by day: dbt's seed `exchange_rates.csv`, which backtests read in Trino, for live payments."""

import csv
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import cache
from math import isfinite
from pathlib import Path

_NAME = "exchange_rates.csv"
_HERE = Path(__file__).parent
# The image has a copy beside this module; in a checkout there is only the seed itself.
_PLACES = (_HERE / _NAME, _HERE.parents[1] / "phase3-transforms/dbt_project/seeds" / _NAME)


class Rates:
    """Euros for one unit of a currency, by day."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        """From the rows of the seed: currency, valid_from (YYYY-MM-DD), rate.

        Raises:
            ValueError: a row is invalid, or there are two for the same currency and day.
        """
        by_currency: dict[str, dict[date, float]] = {}
        for number, row in enumerate(rows, start=2):
            try:
                currency, day, rate = row["currency"], date.fromisoformat(row["valid_from"]), float(row["rate"])
                if not (isfinite(rate) and rate > 0):
                    raise ValueError(f"the rate {rate} is not above 0")
                if day in by_currency.setdefault(currency, {}):
                    raise ValueError(f"{currency} has two rates of {day}")
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{_NAME}, line {number}: {error}") from error
            by_currency[currency][day] = rate
        self._rates = {
            currency: tuple(zip(*sorted(rates.items()), strict=True)) for currency, rates in by_currency.items()
        }

    def rate(self, currency: str | None, at: datetime) -> float | None:
        """The newest rate that is valid on the day, in UTC, of a moment; None if there is none."""
        if currency is None or (found := self._rates.get(currency)) is None:
            return None
        days, rates = found
        position = bisect_right(days, at.astimezone(UTC).date())
        return rates[position - 1] if position else None

    def periods(self) -> Iterator[tuple[str, date, date | None, float]]:
        """Every rate with its currency, its first day, and the first day of the next one; None for the newest."""
        for currency, (days, rates) in self._rates.items():
            for begin, end, rate in zip(days, (*days[1:], None), rates, strict=True):
                yield currency, begin, end, rate


@cache
def stored_rates() -> Rates:
    """The rates of this release, read once.

    Raises:
        OSError: the seed is missing.
        ValueError: it is invalid.
    """
    path = next((place for place in _PLACES if place.exists()), _PLACES[-1])
    with path.open(encoding="utf-8", newline="") as file:
        return Rates(csv.DictReader(file))

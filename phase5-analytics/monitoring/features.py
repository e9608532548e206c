"""The features of stored predictions in little memory: as JSON, an hour of them needs more than the container has."""

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Features:
    """Numbers by the name of the feature; what is no number is NaN. Rows with the same names share `positions`."""

    positions: Mapping[str, int]
    values: "array[float]"

    @classmethod
    def of(cls, document: Any) -> "Features":
        """From what the table has: any JSON, also null."""
        if not isinstance(document, Mapping):
            return cls({}, array("d"))
        numbers = (value if is_number(value) else math.nan for value in document.values())
        return cls(_positions(tuple(document)), array("d", numbers))

    def get(self, name: str) -> float:
        """The number of a feature; NaN if there is none."""
        position = self.positions.get(name)
        return math.nan if position is None else self.values[position]


@lru_cache(maxsize=16)
def _positions(names: tuple[str, ...]) -> Mapping[str, int]:
    return {name: position for position, name in enumerate(names)}


def is_number(value: Any) -> bool:
    """Whether it can be counted: no null, text, NaN or infinity."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False

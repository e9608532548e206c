"""Simulated payments as columns, until they become Avro."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000

LEGITIMATE = 0
SCENARIOS = (
    "legitimate",
    "card_testing",
    "account_takeover",
    "compromised_merchant",
    "stolen_card",
    "high_amount",
    "compromised_terminal",
    "multiplied_spending",
)
CARD_TESTING, ACCOUNT_TAKEOVER, COMPROMISED_MERCHANT, STOLEN_CARD, HIGH_AMOUNT = range(1, 6)
COMPROMISED_TERMINAL, MULTIPLIED_SPENDING = 6, 7

SMALLEST_CENTS = 50
LARGEST_CENTS = 2_500_000


@dataclass(frozen=True)
class Payments:
    """Position i of each column is payment i."""

    user: np.ndarray  # int, index of the cardholder
    merchant: np.ndarray  # int, index of the merchant
    cents: np.ndarray  # int, amount in hundredths
    event_ms: np.ndarray  # int, when it happened, ms since 1970 UTC
    device: np.ndarray  # uint64, 0 where none is known
    device_type: np.ndarray  # int, index of the schema's enum
    scenario: np.ndarray  # int, index into SCENARIOS

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray) -> Self:
        """The payments at these positions, or where this mask is true."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def concat(cls, parts: list[Self]) -> Self:
        """All payments of the parts, in their order."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    @classmethod
    def empty(cls) -> Self:
        """No payments."""
        ints = np.empty(0, np.int64)
        return cls(ints, ints, ints, ints, np.empty(0, np.uint64), ints, ints)


def to_cents(log_amount: np.ndarray) -> np.ndarray:
    """Amounts from their logarithm, within what a card payment can be."""
    return np.clip(np.rint(np.exp(log_amount) * 100), SMALLEST_CENTS, LARGEST_CENTS).astype(np.int64)

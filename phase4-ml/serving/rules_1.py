"""The score while there has never been a model: rules-1, plain rules over the same features.

Each rule that applies has a probability of fraud, its weight, and the score is the probability that at least one of
them is right: 1 - (1 - 0.01) · Π(1 - weight). It is between 0 and 1, every rule raises it, and without any it is 0.01.

| rule | weight |
|---|---|
| amount at least 1,000 | 0.10 |
| amount at least 5 times the user's 30-day mean | 0.25 |
| amount 4 standard deviations above that mean | 0.20 |
| international, and less than 5 % of the user's payments are | 0.15 |
| at night | 0.05 |
| more than half of 5 or more payments of 30 days on the last day | 0.25 |
| the merchant's known frauds of 30 days over 2 % | 0.30 |
| the user had a confirmed fraud | 0.15 |
| merchant category of the highest risk | 0.10 |

The tier is medium from a score of 0.20, high from 0.50.
"""

from datetime import UTC, datetime

import numpy as np
from features import FEATURES, MerchantFeatures, Payment, UserFeatures
from numpy.typing import NDArray

VERSION = "rules-1"
MEDIUM, HIGH = 0.20, 0.50
BASE = 0.01

_AT = {name: position for position, name in enumerate(FEATURES)}


class Rules:
    """Scores like a model: the same inputs, the same kind of answer."""

    version = VERSION
    medium, high = MEDIUM, HIGH
    trained_at: datetime | None = None
    # Explanations compare with this: a small payment in the afternoon, by an unknown user at an unknown merchant.
    typical = UserFeatures().to_array(Payment(50.0, False, datetime(2024, 1, 3, 15, tzinfo=UTC)), MerchantFeatures())

    def probabilities(self, matrix: NDArray[np.float32]) -> list[float]:
        """The score of each row."""
        value = {name: matrix[:, position] for name, position in _AT.items()}
        rules = (
            (0.10, value["amount"] >= 1000),
            (0.25, value["amount_to_mean_30d"] >= 5),
            (0.20, value["amount_zscore_30d"] >= 4),
            (0.15, (value["is_international"] > 0) & (value["international_ratio_30d"] < 0.05)),
            (0.05, value["is_night"] > 0),
            (0.25, (value["transactions_30d"] >= 5) & (value["transactions_1d_to_30d"] > 0.5)),
            (0.30, value["merchant_fraud_rate_30d"] > 0.02),
            (0.15, value["confirmed_frauds"] > 0),
            (0.10, value["merchant_category_risk"] >= 2),
        )
        legitimate = np.full(len(matrix), 1 - BASE)
        for weight, applies in rules:
            legitimate[applies] *= 1 - weight
        return (1 - legitimate).tolist()

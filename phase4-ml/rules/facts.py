"""The values of the catalogue's names for one payment, as serving, the audit's replay and a backtest all see them.

Features are the float32 values of the model's input, as doubles: the numbers that are stored with every prediction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from operator import itemgetter

from features import FEATURES, NO_CURRENCY

from rules.catalogue import CATALOGUE, Group
from rules.money import amount_ref, is_round, to_cents
from rules.rates import stored_rates

type Fact = float | str | bool | None

_NAMES = tuple(CATALOGUE.values())
_FEATURES_FROM = next(position for position, name in enumerate(_NAMES) if name.group == "score") + 2
_of_features = itemgetter(*(FEATURES.index(name.name) for name in _NAMES[_FEATURES_FROM:]))
_BOOLEANS = [n for n, name in enumerate(_NAMES) if n >= _FEATURES_FROM and name.type == "boolean"]
_OF_GROUP = {
    group: [n for n, name in enumerate(_NAMES) if n >= _FEATURES_FROM and name.group == group]
    for group in ("user", "merchant", "novelty", "device")
}


# Not frozen: each payment has one, and it would take twice the time to make.
@dataclass(slots=True)
class RulePayment:
    """What rules know of a payment itself. Optional fields are None, or empty, where the sender gave none."""

    user_id: str
    merchant_id: str
    amount: float
    is_international: bool
    # The moment that the features are of, with a time zone.
    event_time: datetime
    currency: str | None = None
    country: str | None = None
    device_id: str | None = None
    device_type: str | None = None
    merchant_category: str | None = None


def facts_of(
    payment: RulePayment, vector: Sequence[float], score: float, tier: str, unknown: Collection[Group]
) -> list[Fact]:
    """The facts about one payment, in the order of CATALOGUE.

    Args:
        vector: the features in the order of `features.FEATURES`: float32 values, as Python's numbers.
        score: fraud_probability, as the answer has it (rounded).
        tier: risk_tier.
        unknown: the groups whose features are defaults because nothing is known; they are NULL.
    """
    amount = to_cents(payment.amount)
    currency = None if payment.currency == NO_CURRENCY else payment.currency or None
    features = _of_features(vector)
    facts: list[Fact] = [
        amount,
        amount_ref(amount, stored_rates().rate(currency, payment.event_time)),
        is_round(amount),
        currency,
        payment.country or None,
        payment.device_id or None,
        payment.device_type or None,
        payment.merchant_category or None,
        payment.merchant_id,
        payment.user_id,
        payment.is_international,
        score,
        tier,
        *features,
    ]
    for position in _BOOLEANS:
        facts[position] = facts[position] != 0
    if not isfinite(sum(features)):
        # The audit's row has no number that JSON can't express, so a rule sees NULL instead of it here, too.
        for position, value in enumerate(features, start=_FEATURES_FROM):
            facts[position] = facts[position] if isfinite(value) else None
    for group in unknown:
        for position in _OF_GROUP[group]:
            facts[position] = None
    return facts
